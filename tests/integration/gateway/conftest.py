"""A gateway with a good and a bad version of one model, and somebody who calls it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from fastapi.testclient import TestClient
from pydantic import SecretStr

from homeostat.clock import utc_now
from homeostat.policy import Policy
from homeostat.settings import Settings
from models.artifact import save_model, verify
from models.data import Dataset, read_dataset, split
from models.digits import Digits
from models.evaluate import evaluate
from models.learner import Budget, Examples
from monitoring.profile import Profile
from registry import connect, promote, sessions, transaction
from registry.cache import ArtifactCache
from serving.app import create_app
from serving.gateway import Gateway

AUTH = {"Authorization": "Bearer the-token"}
NOWHERE = "http://127.0.0.1:9"  # nothing listens there


@dataclass(frozen=True)
class Trained:
    """Folders of a good and a bad version of one model, with rows that neither has seen."""

    good: Path
    bad: Path
    held: Dataset


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    torch.set_num_threads(1)  # as in the gateway; more would fight over the cores
    train, held = split(read_dataset("builtin:digits", "label"), 0.3, 0)
    learner = Digits.from_data(train.rows, train.labels, {})
    x, y = learner.encode(train.rows), learner.targets(train.labels)
    for name, truths in (("good", y), ("bad", (y + 1) % 10)):
        generator = torch.Generator().manual_seed(0)
        module = learner.build(generator)
        learner.fit(module, Examples(x, truths), None, Budget(epochs=6), generator)
        seen = learner.encode(held.rows)
        judged = evaluate(learner, module, seen, held.labels)
        profile = Profile.from_reference(
            learner.features,
            learner.task,
            learner.observe(seen),
            learner.predicted(judged.outputs),
            learner.confidence(judged.outputs),
            judged.losses,
        )
        extra = {"profile.json": profile.to_json().encode()}
        save_model(folder / name, "digits", learner, module, extra)
    return Trained(folder / "good", folder / "bad", held)


class Caller(TestClient):
    """Asks the gateway for predictions of `digits` and tells it the truth about them."""

    def predict(self, rows: list[Any]) -> dict[str, Any]:
        answer = self.post("/v1/models/digits/predict", json={"rows": rows})
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def label(self, ids: Sequence[str], values: Sequence[Any]) -> httpx.Response:
        labels = [{"id": one, "label": value} for one, value in zip(ids, values, strict=True)]
        answer: httpx.Response = self.post("/v1/labels", json={"labels": labels})
        return answer


@dataclass
class Site:
    """A state folder with versions 1 (good) and 2 (bad) on disk, and what serves it."""

    settings: Settings
    digests: dict[int, str]

    def serve(self, version: int) -> None:
        """Make a version champion in the database, as the pipeline does."""
        with transaction(sessions(connect(self.settings.database))) as session:
            promote(
                session,
                "digits",
                version,
                actor="test",
                reason="the test says so",
                evidence={},
                now=utc_now(),
                digest=self.digests[version],
            )

    def caller(self, gateway: Gateway | None = None) -> Caller:
        """Somebody who calls a gateway, which runs while they are within."""
        return Caller(create_app(self.settings, gateway), headers=AUTH)

    @staticmethod
    def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return
            time.sleep(0.02)
        raise AssertionError("it did not come true in time")


@pytest.fixture
def site(trained: Trained, tmp_path: Path, migrated_sqlite: Path) -> Site:
    state = tmp_path / "state"
    (state / "versions").mkdir(parents=True)
    shutil.copy(migrated_sqlite, state / "lifecycle.db")
    digests = {}
    for version, folder in ((1, trained.good), (2, trained.bad)):
        digest = digests[version] = verify(folder)
        shutil.copytree(folder, state / "versions" / digest)
        ArtifactCache(state / "versions").remember("digits", version, digest)
    settings = Settings(
        state_dir=state,
        token=SecretStr("the-token"),
        mlflow_url=NOWHERE,
        prefect_url=f"{NOWHERE}/api",
        poll_seconds=0.1,
        max_rows=64,
        models={"digits": Policy()},
    )
    return Site(settings, digests)


@pytest.fixture
def client(site: Site) -> Iterator[Caller]:
    """A caller of a gateway that serves version 1."""
    site.serve(1)
    with site.caller() as client:
        yield client
