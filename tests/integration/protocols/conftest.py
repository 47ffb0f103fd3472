"""A gateway with two models on a real socket, for all that speak to it."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import uvicorn
from pydantic import SecretStr

from homeostat.clock import utc_now
from homeostat.policy import Policy
from homeostat.settings import Settings
from models.artifact import save_model
from models.table import Table
from monitoring.profile import Profile
from registry import connect, promote, sessions, transaction
from registry.cache import ArtifactCache
from serving.app import create_app
from serving.gateway import Gateway
from serving.protocol import protocol_of

TOKEN = {"Authorization": "Bearer the-token"}
SHOP = [
    {"size": float(n % 7), "colour": ("red", "blue", None)[n % 3], "count": n % 5}
    for n in range(60)
]


@dataclass(frozen=True)
class Server:
    """A gateway with `digits` and `shop` on a socket."""

    gateway: Gateway
    host: str


def save_shop(folder: Path) -> str:
    learner = Table.from_data(SHOP, ["yes" if n % 7 > 3 else "no" for n in range(60)], {})
    module = learner.build(torch.Generator().manual_seed(0))
    x = learner.encode(SHOP)
    outputs = learner.predict(module, x)
    profile = Profile.from_reference(
        learner.features,
        learner.task,
        learner.observe(x),
        learner.predicted(outputs),
        learner.confidence(outputs),
        [0.0] * len(SHOP),
    )
    extra = {"profile.json": profile.to_json().encode()}
    return save_model(folder, "table", learner, module, extra)


@pytest.fixture(scope="session")
def server(
    untrained: dict[int, tuple[Path, str]],
    migrated_sqlite: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    state = tmp_path_factory.mktemp("oip")
    shutil.copy(migrated_sqlite, state / "lifecycle.db")
    made = state / "made"
    served = {"digits": untrained[1], "shop": (made, save_shop(made))}
    settings = Settings(
        state_dir=state,
        token=SecretStr("the-token"),
        mlflow_url="http://127.0.0.1:9",
        prefect_url="http://127.0.0.1:9/api",
        models={"digits": Policy(), "shop": Policy(learner="table"), "empty": Policy()},
    )
    with transaction(sessions(connect(settings.database))) as session:
        for model, (folder, digest) in served.items():
            shutil.copytree(folder, state / "versions" / digest)
            ArtifactCache(state / "versions").remember(model, 1, digest)
            promote(
                session,
                model,
                1,
                actor="test",
                reason="the test says so",
                evidence={},
                now=utc_now(),
                digest=digest,
            )
    gateway = Gateway(settings)
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            create_app(settings, gateway),
            http=protocol_of(gateway.predictor),
            ws="none",
            log_level="warning",
        )
        running = uvicorn.Server(config)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        until(lambda: running.started)
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        yield Server(gateway, host)
        running.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
