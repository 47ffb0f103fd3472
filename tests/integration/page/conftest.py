"""MLflow's page as a person uses it: versions to move aliases to, and a gateway that answers."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import torch
from fastapi.testclient import TestClient
from mlflow import MlflowClient
from pydantic import SecretStr

from homeostat.clock import utc_now
from homeostat.errors import Unavailable
from homeostat.policy import Policy, RolloutPolicy
from homeostat.settings import Settings
from models.artifact import save_model
from models.data import Dataset, read_dataset, split
from models.digits import Digits
from models.evaluate import evaluate
from models.learner import Budget, Examples
from monitoring.profile import Profile
from registry import (
    Line,
    MlflowVersions,
    Verdict,
    connect,
    lines_of,
    record_verdict,
    sessions,
    transaction,
)
from registry.mlflow_api import MlflowApi
from serving.app import create_app
from serving.gateway import Gateway
from tests.asking import ask

AUTH = {"Authorization": "Bearer the-token"}


@dataclass(frozen=True)
class Trained:
    """Folders and digests of versions by name, with rows that none of them has seen."""

    folders: dict[str, tuple[Path, str]]
    held: Dataset


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("shelf")
    torch.set_num_threads(1)  # as in the gateway; more would fight over the cores
    train, held = split(read_dataset("builtin:digits", "label"), 0.3, 0)
    learner = Digits.from_data(train.rows, train.labels, {})
    x, y = learner.encode(train.rows), learner.targets(train.labels)
    folders = {}
    for seed, name in enumerate(("good", "better", "bad")):
        generator = torch.Generator().manual_seed(seed)
        module = learner.build(generator)
        truths = (y + 1) % 10 if name == "bad" else y
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
        digest = save_model(folder / name, "digits", learner, module, extra)
        folders[name] = (folder / name, digest)
    return Trained(folders, held)


Runner = Callable[..., AbstractContextManager[str]]


@dataclass(frozen=True)
class Page:
    """MLflow as its page drives it, with a model of this test's own."""

    client: MlflowClient
    url: str
    model: str

    def versions(self, count: int) -> None:
        """Register the model with so many versions of one and the same run."""
        self.client.create_registered_model(self.model)
        run = self.client.create_run("0")
        source = f"{run.info.artifact_uri}/model"
        for _ in range(count):
            self.client.create_model_version(self.model, source, run.info.run_id)

    def set(self, version: int, alias: str = "champion") -> None:
        self.client.set_registered_model_alias(self.model, alias, str(version))

    def aliases(self) -> dict[str, int]:
        found = self.client.get_registered_model(self.model).aliases
        return {alias: int(version) for alias, version in found.items()}

    @staticmethod
    def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return
            time.sleep(0.02)
        raise AssertionError("it did not come true in time")

    def call(self, method: str, route: str, **body: str) -> httpx.Response:
        """A call as the page makes it: raw REST."""
        place = f"{self.url}/api/2.0/mlflow/{route}"
        return ask(method, place, json=body, timeout=30.0)


@pytest.fixture(scope="session")
def page_of() -> Callable[[str], Page]:
    """Makes a page of a server."""

    def make(url: str) -> Page:
        return Page(MlflowClient(url, url), url, f"facts-{uuid4().hex[:8]}")

    return make


@pytest.fixture
def page(mlflow_url: str, page_of: Callable[[str], Page]) -> Page:
    """A page of the server that all tests share: it delivers no webhooks to the loopback."""
    return page_of(mlflow_url)


class WatchedApi(MlflowApi):
    """The gateway's way to MLflow, which a test cuts, and which counts what is written."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.down = False
        self.writes: list[str] = []

    def _call(self, method: str, route: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - as its base
        if self.down:
            raise Unavailable("MLflow is away.", remedy="Wait.")
        if method != "GET":
            self.writes.append(f"{method} {route}")
        return super()._call(method, route, **options)


class Person:
    """Somebody at MLflow's page, and a caller of the gateway."""

    def __init__(self, url: str, shelf: Trained, settings: Settings, model: str) -> None:
        self.model = model
        self.page = MlflowClient(url)
        self.shelf = shelf
        self.settings = settings
        self.api = WatchedApi(url)
        self._url = url
        self._at = 0
        self.client: TestClient

    @contextmanager
    def gateway(self) -> Iterator[None]:
        """A gateway that runs until the block ends; another one may follow it."""
        store = MlflowVersions(self._url)
        self.api = WatchedApi(self._url)
        store._api = self.api
        app = create_app(self.settings, Gateway(self.settings, store=store))
        with TestClient(app, headers=AUTH) as client:
            self.client = client
            yield

    def register(self, name: str, *, passed: bool, description: str = "") -> int:
        """Put a version on the shelf of MLflow, with its verdict in our database."""
        folder, digest = self.shelf.folders[name]
        known = self.page.get_experiment_by_name("t")
        experiment = known.experiment_id if known else self.page.create_experiment("t")
        run = self.page.create_run(experiment)
        self.page.log_artifacts(run.info.run_id, str(folder), "model")
        store = MlflowVersions(self._url)
        version = store.register(
            self.model, run.info.run_id, "model", digest, uuid4().hex, description=description
        )
        store.close()
        with transaction(sessions(connect(self.settings.database))) as session:
            record_verdict(session, self.model, version, Verdict(passed, (), digest), utc_now())
        return version

    def alias(self, alias: str, version: int) -> None:
        self.page.set_registered_model_alias(self.model, alias, str(version))

    def drop(self, alias: str) -> None:
        self.page.delete_registered_model_alias(self.model, alias)

    def aliases(self) -> dict[str, int]:
        found = self.page.get_registered_model(self.model).aliases
        return {alias: int(version) for alias, version in found.items()}

    def tags(self, version: int) -> dict[str, str]:
        return dict(self.page.get_model_version(self.model, str(version)).tags)

    def state(self, version: int) -> str:
        return self.tags(version).get("lifecycle.state", "")

    def reason(self, version: int) -> str:
        return self.tags(version).get("lifecycle.reason", "")

    def description(self, version: int) -> str:
        return self.page.get_model_version(self.model, str(version)).description or ""

    def predict(self, count: int = 1) -> dict[str, Any]:
        rows = [self.shelf.held.rows[(self._at + n) % 500] for n in range(count)]
        body = {"rows": rows}
        answer = self.client.post(f"/v1/models/{self.model}/predict", json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def stream(self, count: int = 20) -> None:
        """Some predictions and their labels."""
        given = self.predict(count)["predictions"]
        truths = [self.shelf.held.labels[(self._at + n) % 500] for n in range(count)]
        self._at += count
        labels = [
            {"id": one["id"], "label": truth} for one, truth in zip(given, truths, strict=True)
        ]
        answer = self.client.post("/v1/labels", json={"labels": labels})
        assert answer.status_code == 200, answer.text

    def ask(self, action: str, **body: object) -> dict[str, Any]:
        """A call of the gateway's own API."""
        answer = self.client.post(f"/v1/models/{self.model}/{action}", json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def routing(self) -> dict[str, Any]:
        found: dict[str, Any] | None
        found = self.client.get(f"/v1/models/{self.model}").json()["routing"]
        return found or {}

    def serves(self) -> int:
        return int(self.routing().get("champion", 0))

    def incidents(self) -> list[dict[str, Any]]:
        query = f"/v1/incidents?every=true&model={self.model}"
        found: list[dict[str, Any]] = self.client.get(query).json()["incidents"]
        return found

    def told(self) -> str:
        """All that on-call was told of, as one text."""
        return " ".join(event["text"] for one in self.incidents() for event in one["events"])

    def alias_lines(self) -> list[Line]:
        """What the ledger says of aliases, oldest first."""
        with transaction(sessions(connect(self.settings.database))) as session:
            return [line for line in lines_of(session, self.model) if line.kind == "alias"]

    def wait_for(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return
            time.sleep(0.05)
        raise AssertionError(f"it did not come true in time; on-call was told: {self.told()}")

    def settled(self, version: int) -> None:
        """Wait until a version serves and MLflow's page says so."""
        self.wait_for(lambda: self.serves() == version)

        def written() -> bool:
            generation = str(self.routing()["generation"])
            return self.tags(version).get("lifecycle.generation") == generation

        self.wait_for(written)
        assert self.state(version) == "serving"

    def first_champion(self, description: str = "") -> int:
        version = self.register("good", passed=True, description=description)
        self.alias("champion", version)
        self.settled(version)
        return version


@pytest.fixture
def someone(mlflow_url: str, shelf: Trained, tmp_path: Path, migrated_sqlite: Path) -> Person:
    """A person whose gateway does not run yet."""
    state = tmp_path / "state"
    state.mkdir()
    shutil.copy(migrated_sqlite, state / "lifecycle.db")
    model = f"digits-{uuid4().hex[:8]}"
    rollout = RolloutPolicy(margin=0.1, canary_share=0.5, canary_predictions=60)
    settings = Settings(
        state_dir=state,
        token=SecretStr("the-token"),
        mlflow_url=mlflow_url,
        prefect_url="http://127.0.0.1:9/api",
        poll_seconds=0.2,
        models={model: Policy(rollout=rollout)},
    )
    return Person(mlflow_url, shelf, settings, model)


@pytest.fixture
def person(someone: Person) -> Iterator[Person]:
    """A person with a gateway that runs."""
    with someone.gateway():
        yield someone
