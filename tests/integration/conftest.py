"""What the integration tests share: databases, MLflow servers, and stations that answer."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient
from pydantic import SecretStr

from homeostat.clock import utc_now
from homeostat.policy import Policy
from homeostat.settings import Settings
from models.artifact import load_model, save_model
from models.digits import Digits
from monitoring.profile import Profile
from registry import (
    Routing,
    connect,
    current_routing,
    promote,
    sessions,
    transaction,
    write_routing,
)
from registry.cache import ArtifactCache
from serving.app import create_app
from serving.gateway import Gateway
from tests.integration.databases import (
    database_url,
    empty_database_url,
    empty_postgres,
    engine,
    maker,
    migrated_postgres,
    migrated_sqlite,
    new_postgres,
    postgres_url,
    session,
)
from tests.integration.mlflow_servers import (
    mlflow_folder,
    mlflow_server,
    mlflow_url,
    run_mlflow,
)

__all__ = [  # fixtures: pytest finds them here
    "database_url",
    "empty_database_url",
    "empty_postgres",
    "engine",
    "maker",
    "migrated_postgres",
    "migrated_sqlite",
    "mlflow_folder",
    "mlflow_server",
    "mlflow_url",
    "new_postgres",
    "postgres_url",
    "run_mlflow",
    "session",
]

NOWHERE = "http://127.0.0.1:9"  # nothing listens there
PIXELS = [[float((n * k) % 17) for k in range(64)] for n in range(200)]


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass(frozen=True)
class Station:
    """A state folder with versions 1, 2 and 3 of `digits` on disk: nets that nobody trained.

    They answer differently, so the labels decide which of them is right.
    """

    settings: Settings
    digests: dict[int, str]

    def serve(self, version: int, at: datetime | None = None) -> None:
        """Make a version champion in the database, as the pipeline does."""
        with transaction(sessions(connect(self.settings.database))) as session:
            promote(
                session,
                "digits",
                version,
                actor="test",
                reason="the test says so",
                evidence={},
                now=at or utc_now(),
                digest=self.digests[version],
            )

    @contextmanager
    def answering(self, clock: HandClock) -> Iterator[tuple[Gateway, TestClient]]:
        """A gateway on this station that answers with version 1, and a caller who may do all."""
        self.serve(1, clock())
        gateway = Gateway(self.settings, clock)
        token = self.settings.token.get_secret_value()
        caller = {"Authorization": f"Bearer {token}"}
        with TestClient(create_app(self.settings, gateway), headers=caller) as client:
            yield gateway, client

    def put_on_trial(self, version: int, at: datetime | None = None) -> None:
        """Make a version challenger in shadow."""
        with transaction(sessions(connect(self.settings.database))) as session:
            present = current_routing(session, "digits")
            assert present is not None
            write_routing(
                session,
                "digits",
                present.generation,
                champion=present.champion,
                challenger=version,
                standby=present.standby,
                phase="shadow",
                canary_share=0.0,
                actor="test",
                reason="the test says so",
                evidence={},
                at=at or utc_now(),
                digests={version: self.digests[version]},
            )

    def routing(self) -> Routing:
        """The routing as the database has it."""
        with transaction(sessions(connect(self.settings.database))) as session:
            found = current_routing(session, "digits")
        assert found is not None
        return found

    def says(self, version: int, rows: list[list[float]]) -> list[int]:
        """What a version predicts."""
        folder = self.settings.state_dir / "versions" / self.digests[version]
        loaded = load_model(folder, allowed=["digits"], digest=None)
        outputs = loaded.learner.predict(loaded.model, loaded.learner.encode(rows))
        return [int(one) for one in loaded.learner.predicted(outputs)]


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Path, str]]:
    """Folder and digest of three nets."""
    folder = tmp_path_factory.mktemp("untrained")
    learner = Digits.from_data(PIXELS, [n % 10 for n in range(len(PIXELS))], {})
    x = learner.encode(PIXELS)
    found = {}
    for version in (1, 2, 3):
        module = learner.build(torch.Generator().manual_seed(version))
        outputs = learner.predict(module, x)
        profile = Profile.from_reference(
            learner.features,
            learner.task,
            learner.observe(x),
            learner.predicted(outputs),
            learner.confidence(outputs),
            [0.0] * len(PIXELS),
        )
        extra = {"profile.json": profile.to_json().encode()}
        place = folder / str(version)
        found[version] = (place, save_model(place, "digits", learner, module, extra))
    return found


@pytest.fixture(autouse=True)
def silent_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the MLflow address of most tests nothing answers: no incident of slow machines alone.

    A gateway that runs as a process of its own tells of it as ever.
    """
    monkeypatch.setattr("serving.custody.AWAY_SECONDS", 3600.0)


@pytest.fixture
def station(
    untrained: dict[int, tuple[Path, str]], tmp_path: Path, migrated_sqlite: Path
) -> Callable[..., Station]:
    """Makes a station by a policy, on SQLite or on the database of an address."""

    def make(policy: Policy | None = None, database_url: str = "", **changes: object) -> Station:
        state = tmp_path / "state"
        (state / "versions").mkdir(parents=True)
        if not database_url:
            shutil.copy(migrated_sqlite, state / "lifecycle.db")
        digests = {}
        for version, (folder, digest) in untrained.items():
            digests[version] = digest
            shutil.copytree(folder, state / "versions" / digest)
            ArtifactCache(state / "versions").remember("digits", version, digest)
        settings = Settings(
            state_dir=state,
            database_url=database_url,
            token=SecretStr("the-token"),
            mlflow_url=NOWHERE,
            prefect_url=f"{NOWHERE}/api",
            poll_seconds=0.1,
            models={"digits": policy or Policy()},
        )
        return Station(settings.model_copy(update=changes), digests)

    return make


@pytest.fixture
def hand_clock() -> HandClock:
    """A clock that the test moves."""
    return HandClock()
