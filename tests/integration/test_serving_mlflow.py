"""The controller against a real MLflow server: what a person does on its page, and what follows."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import torch
from fastapi.testclient import TestClient
from mlflow import MlflowClient
from pydantic import SecretStr

from homeostat.clock import utc_now
from homeostat.policy import Policy, RolloutPolicy
from homeostat.settings import Settings
from models.artifact import save_model
from models.data import Dataset, read_dataset, split
from models.digits import Digits
from models.evaluate import evaluate
from models.learner import Budget, Examples
from monitoring.profile import Profile
from registry import MlflowVersions, Verdict, connect, record_verdict, sessions, transaction
from serving.app import create_app
from serving.gateway import Gateway

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


class Person:
    """Somebody at MLflow's page, and a caller of the gateway."""

    def __init__(self, url: str, shelf: Trained, settings: Settings, model: str) -> None:
        self.model = model
        self.page = MlflowClient(url)
        self.shelf = shelf
        self.settings = settings
        self._url = url
        self._at = 0
        self.client: TestClient

    def register(self, name: str, *, passed: bool) -> int:
        """Put a version on the shelf of MLflow, with its verdict in our database."""
        folder, digest = self.shelf.folders[name]
        known = self.page.get_experiment_by_name("t")
        experiment = known.experiment_id if known else self.page.create_experiment("t")
        run = self.page.create_run(experiment)
        self.page.log_artifacts(run.info.run_id, str(folder), "model")
        store = MlflowVersions(self._url)
        version = store.register(self.model, run.info.run_id, "model", digest, uuid4().hex)
        store.close()
        with transaction(sessions(connect(self.settings.database))) as session:
            record_verdict(session, self.model, version, Verdict(passed, (), digest), utc_now())
        return version

    def alias(self, alias: str, version: int) -> None:
        self.page.set_registered_model_alias(self.model, alias, str(version))

    def aliases(self) -> dict[str, int]:
        found = self.page.get_registered_model(self.model).aliases
        return {alias: int(version) for alias, version in found.items()}

    def tags(self, version: int) -> dict[str, str]:
        return dict(self.page.get_model_version(self.model, str(version)).tags)

    def state(self, version: int) -> str:
        return self.tags(version).get("lifecycle.state", "")

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

    def serves(self) -> int:
        answer = self.client.get(f"/v1/models/{self.model}").json()["routing"]
        return int(answer["champion"]) if answer else 0

    def incidents(self) -> list[dict[str, Any]]:
        query = f"/v1/incidents?every=true&model={self.model}"
        found: list[dict[str, Any]] = self.client.get(query).json()["incidents"]
        return found


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come true in time")


@pytest.fixture
def person(
    mlflow_url: str, shelf: Trained, tmp_path: Path, migrated_sqlite: Path
) -> Iterator[Person]:
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
    someone = Person(mlflow_url, shelf, settings, model)
    with TestClient(create_app(settings, Gateway(settings)), headers=AUTH) as client:
        someone.client = client
        yield someone


def first_champion(person: Person) -> int:
    version = person.register("good", passed=True)
    person.alias("champion", version)
    wait_for(lambda: person.serves() == version)
    wait_for(lambda: person.state(version) == "serving")
    return version


def test_the_first_champion_is_served_and_told_so(person: Person) -> None:
    version = first_champion(person)
    assert person.predict()["version"] == version
    assert person.tags(version)["lifecycle.generation"] == "1"
    (line,) = person.client.get(f"/v1/models/{person.model}/history").json()["routings"]
    assert line["actor"] == "unknown (MLflow)"


def test_an_alias_moved_to_a_passing_version_moves_the_traffic(person: Person) -> None:
    first = first_champion(person)
    second = person.register("better", passed=True)
    person.alias("champion", second)
    wait_for(lambda: person.predict()["version"] == second)
    wait_for(lambda: person.aliases() == {"champion": second, "standby": first})
    wait_for(lambda: person.state(second) == "serving" and person.state(first) == "standby")


def test_an_alias_moved_past_the_gates_is_put_back_once_then_held(person: Person) -> None:
    first = first_champion(person)
    bad = person.register("bad", passed=False)
    person.alias("champion", bad)
    wait_for(lambda: person.aliases()["champion"] == first)
    assert person.state(bad) == "rejected"
    wait_for(lambda: [one["state"] for one in person.incidents()] == ["mitigated"])
    person.alias("champion", bad)
    wait_for(lambda: any(one["severity"] == "page" for one in person.incidents()))
    assert person.aliases()["champion"] == bad
    assert person.predict()["version"] == first


def test_an_override_lets_a_bad_version_in_and_labels_throw_it_out(person: Person) -> None:
    first = first_champion(person)
    bad = person.register("bad", passed=False)
    wish = {"version": bad, "reason": "I know better", "expires_hours": 1}
    answer = person.client.post(f"/v1/models/{person.model}/overrides", json=wish)
    assert answer.status_code == 200, answer.text
    person.alias("champion", bad)
    wait_for(lambda: person.predict()["version"] == bad)
    wait_for(lambda: person.state(bad) == "serving")
    for _ in range(10):
        person.stream(10)
        if person.predict()["version"] == first:
            break
    assert person.predict()["version"] == first
    wait_for(lambda: person.aliases()["champion"] == first)
    wait_for(lambda: person.state(bad) == "rolled_back")
    assert "standby" not in person.aliases()
    kinds = {one["kind"]: one for one in person.incidents()}
    told = kinds.get("worse-than-standby") or kinds["registry"]
    assert told["state"] == "mitigated"
    assert "--override" in told["undo"]
    person.alias("champion", bad)  # quarantined now: no override lifts that through an alias
    wait_for(lambda: person.aliases()["champion"] == first)
    assert person.predict()["version"] == first


def test_an_alias_that_is_taken_away_is_put_back_and_a_deleted_version_serves_on(
    person: Person,
) -> None:
    first = first_champion(person)
    person.page.delete_registered_model_alias(person.model, "champion")
    wait_for(lambda: person.aliases().get("champion") == first)
    assert person.predict()["version"] == first
    person.page.delete_model_version(person.model, str(first))
    wait_for(lambda: any(one["severity"] == "page" for one in person.incidents()))
    assert person.predict()["version"] == first


def test_a_challenger_earns_its_traffic(person: Person) -> None:
    first = first_champion(person)
    second = person.register("better", passed=True)
    person.alias("challenger", second)
    wait_for(lambda: person.state(second) == "shadow")
    phases = set()
    for _ in range(200):
        person.stream(20)
        routing = person.client.get(f"/v1/models/{person.model}").json()["routing"]
        phases.add(routing["phase"])
        if routing["champion"] == second:
            break
    assert person.predict()["version"] == second
    assert phases >= {"shadow", "canary"}
    wait_for(lambda: person.aliases() == {"champion": second, "standby": first})
    wait_for(lambda: person.state(second) == "serving")


def test_a_worse_challenger_is_turned_away(person: Person) -> None:
    first = first_champion(person)
    bad = person.register("bad", passed=True)
    person.alias("challenger", bad)
    wait_for(lambda: person.state(bad) == "shadow")
    for _ in range(50):
        person.stream(20)
        if person.client.get(f"/v1/models/{person.model}").json()["routing"]["phase"] == "steady":
            break
    assert {person.predict()["version"]} == {first}
    wait_for(lambda: "challenger" not in person.aliases())
    wait_for(lambda: person.state(bad) == "rejected")
    assert "worse" in person.tags(bad)["lifecycle.reason"]


def test_a_name_that_is_nearly_right_moves_nothing(person: Person) -> None:
    first = first_champion(person)
    second = person.register("better", passed=True)
    person.alias("Champion", second)
    person.alias("prod", second)
    before = person.client.get(f"/v1/models/{person.model}/history").json()
    for _ in range(5):
        person.stream(1)
    assert person.predict()["version"] == first
    assert person.client.get(f"/v1/models/{person.model}/history").json() == before
