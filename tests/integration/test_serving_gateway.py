from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from pydantic import SecretStr

from homeostat.clock import utc_now
from homeostat.policy import Policy
from homeostat.settings import Settings
from models.artifact import save_model
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


def when_claimed(client: TestClient) -> dict[str, Any]:
    """The incident about the traffic, once answers have shown that its harm ended."""
    deadline = time.monotonic() + 10
    while True:
        found = client.get("/v1/incidents").json()["incidents"]
        (incident,) = [one for one in found if "subject" not in one["details"]]
        if incident["state"] == "mitigated" or time.monotonic() > deadline:
            return dict(incident)
        time.sleep(0.05)


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


@pytest.fixture
def site(trained: Trained, tmp_path: Path, migrated_sqlite: Path) -> Site:
    state = tmp_path / "state"
    (state / "versions").mkdir(parents=True)
    shutil.copy(migrated_sqlite, state / "lifecycle.db")
    digests = {}
    for version, folder in ((1, trained.good), (2, trained.bad)):
        from models.artifact import verify

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
def client(site: Site) -> Iterator[TestClient]:
    site.serve(1)
    with TestClient(create_app(site.settings), headers=AUTH) as client:
        yield client


def predict(client: TestClient, rows: list[Any]) -> dict[str, Any]:
    answer = client.post("/v1/models/digits/predict", json={"rows": rows})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def label(client: TestClient, ids: Sequence[str], values: Sequence[Any]) -> httpx.Response:
    labels = [{"id": one, "label": value} for one, value in zip(ids, values, strict=True)]
    answer: httpx.Response = client.post("/v1/labels", json={"labels": labels})
    return answer


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come true in time")


def test_an_answer_names_version_release_digest_generation_and_ids(
    client: TestClient, site: Site, trained: Trained
) -> None:
    rows = trained.held.rows[:3]
    answer = client.post("/v1/models/digits/predict", json={"rows": list(rows)})
    body = answer.json()
    assert body["release"] == "digits:1@g1"
    assert (body["version"], body["generation"], body["reason"]) == (1, 1, "champion")
    assert body["digest"] == site.digests[1]
    assert len({one["id"] for one in body["predictions"]}) == 3
    assert {one["version"] for one in body["predictions"]} == {1}
    assert all(0 <= one["confidence"] <= 1 for one in body["predictions"])
    assert answer.headers["x-homeostat-version"] == "1"
    assert answer.headers["x-homeostat-generation"] == "1"
    one = client.post("/v1/models/digits/predict", json={"row": rows[0]}).json()
    assert one["predictions"][0]["prediction"] == body["predictions"][0]["prediction"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"not json", 400, "invalid-request"),
        (b'{"rows": []}', 400, "invalid-request"),
        (b"{}", 400, "invalid-request"),
        (b'{"rows": [1], "row": 1}', 400, "invalid-request"),
        (b'{"row": 1, "rwos": 1}', 400, "invalid-request"),
        (b'{"rows": "x"}', 400, "invalid-request"),
        (b"\xff\xfe", 400, "invalid-request"),
        (b'{"rows": ' + b"[" * 100_000, 400, "invalid-request"),
        (b'{"row": [1, 2, 3]}', 422, "invalid-row"),
        (b'{"row": {"ink": 1}}', 422, "invalid-row"),
        (json.dumps({"row": [float("nan")] * 64}).encode(), 422, "invalid-row"),
        (json.dumps({"row": [float("inf")] * 64}).encode(), 422, "invalid-row"),
        (b'{"row": [' + b"1e999," * 63 + b"1]}", 422, "invalid-row"),
        (json.dumps({"rows": [[0] * 64] * 65}).encode(), 413, "too-large"),
        (json.dumps({"rows": [[0] * 64], "entity": ["a", "b"]}).encode(), 400, "invalid-request"),
    ],
)
def test_each_bad_body_has_its_own_problem(
    client: TestClient, body: bytes, status: int, code: str
) -> None:
    answer = client.post("/v1/models/digits/predict", content=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"urn:homeostat:{code}"


def test_the_door_and_the_addresses_answer_with_problems(client: TestClient) -> None:
    row = {"row": [0] * 64}
    path = "/v1/models/digits/predict"
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer x"}):
        for answer in (
            client.post(path, json=row, headers=headers),
            client.get("/v1/models", headers=headers),
            client.post("/v1/labels", json={}, headers=headers),
        ):
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
    assert client.post("/v1/models/nope/predict", json=row).json()["code"] == "unknown-model"
    assert client.get("/v1/models/nope").json()["code"] == "unknown-model"
    assert client.get("/nowhere").json()["code"] == "not-found"
    assert client.get(path).json()["code"] == "method-not-allowed"
    assert client.delete("/v1/labels").json()["code"] == "method-not-allowed"
    assert client.post("/v1/labels", content=b"[").json()["code"] == "invalid-request"
    for open_to_all in ("/health/live", "/health/ready", "/metrics", "/openapi.json"):
        assert client.get(open_to_all, headers={"Authorization": ""}).status_code == 200
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/models/{model}/predict", "/v1/labels"} <= set(paths)


def test_labels_have_one_stated_outcome_each(client: TestClient, trained: Trained) -> None:
    rows, truths = trained.held.rows[:4], trained.held.labels[:4]
    ids = [one["id"] for one in predict(client, list(rows))["predictions"]]
    accepted = label(client, ids[:2], truths[:2])
    assert [one["status"] for one in accepted.json()["results"]] == ["accepted"] * 2
    again = label(client, ids[:2], truths[:2])
    assert (again.status_code, again.json()["results"][0]["status"]) == (200, "duplicate")
    conflict = label(client, [ids[0], ids[2]], [(int(truths[0]) + 1) % 10, truths[2]])
    assert (conflict.status_code, conflict.json()["code"]) == (409, "conflicting-label")
    assert [one["status"] for one in conflict.json()["results"]] == ["conflict", "accepted"]
    unknown = label(client, ["never-given-out", ids[3]], [1, truths[3]])
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown-prediction")
    assert [one["status"] for one in unknown.json()["results"]] == ["unknown", "accepted"]
    invalid = label(client, [ids[0]], [{"a": 1}])
    assert invalid.status_code in (409, 422)


def test_an_invalid_label_is_named_and_the_others_are_kept(
    client: TestClient, trained: Trained
) -> None:
    ids = [one["id"] for one in predict(client, list(trained.held.rows[:2]))["predictions"]]
    answer = label(client, ids, [[1, 2], trained.held.labels[1]])
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-label")
    assert [one["status"] for one in answer.json()["results"]] == ["invalid", "accepted"]
    assert label(client, ids[:1], list(trained.held.labels[:1])).status_code == 200


def test_the_deciding_label_sends_traffic_back_before_its_call_returns(
    site: Site, trained: Trained
) -> None:
    site.serve(1)
    site.serve(2)
    rows, truths = list(trained.held.rows), list(trained.held.labels)
    with TestClient(create_app(site.settings), headers=AUTH) as client:
        assert predict(client, rows[:1])["version"] == 2
        needed = 0
        for start in range(0, 500, 10):
            body = predict(client, rows[start : start + 10])
            ids = [one["id"] for one in body["predictions"]]
            assert label(client, ids, truths[start : start + 10]).status_code == 200
            needed += 10
            after = predict(client, rows[:1])
            if after["version"] == 1:
                break
        assert after["release"] == "digits:1@g3"
        assert needed <= 60
        incident = when_claimed(client)
        assert (incident["kind"], incident["state"]) == ("worse-than-standby", "mitigated")
        assert incident["undo"].startswith("homeostat promote digits --version 2 --override")
        history = client.get("/v1/models/digits/history").json()["routings"]
        assert [one["actor"] for one in history] == ["test", "test", "guard"]
        # What the undo command does:
        wish = {"version": 2, "reason": "it is right after all"}
        refused = client.post("/v1/models/digits/promote", json=wish)
        assert (refused.status_code, refused.json()["code"]) == (409, "gate-refused")
        undone = client.post("/v1/models/digits/promote", json=wish | {"override": True})
        assert undone.status_code == 200, undone.text
        assert predict(client, rows[:1])["version"] == 2
        back = client.post("/v1/models/digits/rollback", json={"reason": "enough"})
        assert back.json()["champion"] == 1
        assert predict(client, rows[:1])["version"] == 1
        none = client.post("/v1/models/digits/rollback", json={"reason": "again"})
        assert (none.status_code, none.json()["code"]) == (409, "no-target")


def test_a_champion_that_fails_where_the_standby_does_not_is_rolled_back(
    site: Site, trained: Trained
) -> None:
    site.serve(1)
    site.serve(2)
    gateway = Gateway(site.settings)
    rows = list(trained.held.rows)
    with TestClient(create_app(site.settings, gateway), headers=AUTH) as client:
        split_now = gateway.fleet.serving("digits")
        for weights in split_now.champion.module.parameters():
            weights.data.fill_(torch.nan)
        for _ in range(3):
            answer = client.post("/v1/models/digits/predict", json={"rows": rows[:2]})
            if answer.status_code == 200:
                break
            assert (answer.status_code, answer.json()["code"]) == (500, "learner-failed")
        wait_for(lambda: gateway.fleet.serving("digits").champion.version == 1)
        assert predict(client, rows[:2])["version"] == 1
        (incident,) = client.get("/v1/incidents").json()["incidents"]
        assert incident["kind"] == "hard-failure"


def test_a_label_that_comes_before_its_prediction_counts_when_that_lands(
    site: Site, trained: Trained
) -> None:
    site.serve(1)
    gateway = Gateway(site.settings)
    with TestClient(create_app(site.settings, gateway), headers=AUTH) as client:
        watch = gateway.watches["digits"]
        early = "01a20000-0000-7000-8000-000000000001"
        assert label(client, [early], [trained.held.labels[0]]).status_code == 404
        body = predict(client, [trained.held.rows[0]])
        payload: list[bytes] = []
        gateway._spool.drain(payload.extend)
        given, instead = (UUID(one).bytes for one in (body["predictions"][0]["id"], early))
        gateway._spool.append([one.replace(given, instead) for one in payload])
        wait_for(lambda: any(s.detector == "loss" and s.rows == 1 for s in watch.samples()))
        assert label(client, [early], [trained.held.labels[0]]).status_code == 200


def test_with_the_database_away_predictions_go_on_and_labels_ask_to_come_again(
    client: TestClient, site: Site, trained: Trained
) -> None:
    rows, truths = list(trained.held.rows[:5]), list(trained.held.labels[:5])
    ids = [one["id"] for one in predict(client, rows)["predictions"]]
    database = site.settings.state_dir / "lifecycle.db"
    wait_for(lambda: "predictions_logged_total 5.0" in client.get("/metrics").text)
    client.app.gateway.parts.maker.kw["bind"].dispose()  # type: ignore[attr-defined]  # ours
    hidden = database.with_name("hidden")
    for suffix in ("", "-wal", "-shm"):
        part = Path(f"{database}{suffix}")
        if part.exists():
            part.rename(f"{hidden}{suffix}")
    database.mkdir()  # so that nobody makes a new one
    later = [one["id"] for one in predict(client, rows)["predictions"]]
    answer = label(client, ids, truths)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"
    database.rmdir()
    for suffix in ("", "-wal", "-shm"):
        part = Path(f"{hidden}{suffix}")
        if part.exists():
            part.rename(f"{database}{suffix}")
    assert label(client, ids, truths).status_code == 200
    assert label(client, later, truths).status_code == 200


def test_a_gateway_starts_with_mlflow_and_the_database_away(site: Site, trained: Trained) -> None:
    site.serve(1)
    site.serve(2)
    with TestClient(create_app(site.settings), headers=AUTH) as client:
        assert predict(client, list(trained.held.rows[:1]))["release"] == "digits:2@g2"
    away = site.settings.model_copy(
        update={"database_url": f"sqlite:///{site.settings.state_dir / 'no' / 'where.db'}"}
    )
    with TestClient(create_app(away), headers=AUTH) as client:
        assert client.get("/health/ready").status_code == 200
        body = predict(client, list(trained.held.rows[:1]))
        assert body["release"] == "digits:2@g2"
    # Back again: what was answered meanwhile is in the log.
    with TestClient(create_app(site.settings), headers=AUTH) as client:
        ids = [body["predictions"][0]["id"]]
        assert label(client, ids, list(trained.held.labels[:1])).status_code == 200


def test_nothing_to_serve_yet_is_ready_and_says_so(site: Site) -> None:
    with TestClient(create_app(site.settings), headers=AUTH) as client:
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json()["models"]) == (200, {})
        answer = client.post("/v1/models/digits/predict", json={"row": [0] * 64})
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        site.serve(1)
        wait_for(lambda: client.get("/health/ready").json()["models"] != {})
        assert predict(client, [np.zeros(64).tolist()])["version"] == 1


def test_a_spoilt_copy_is_never_loaded(site: Site) -> None:
    site.serve(1)
    weights = site.settings.state_dir / "versions" / site.digests[1] / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with TestClient(create_app(site.settings), headers=AUTH) as client:
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json()["missing"]) == (503, ["digits"])


def test_only_one_of_two_gateways_acts_and_both_follow(site: Site, trained: Trained) -> None:
    site.serve(1)
    first, second = Gateway(site.settings), Gateway(site.settings)
    app = create_app(site.settings, first)
    with TestClient(app, headers=AUTH) as client:
        wait_for(lambda: first.controller.holds_lease)
        with TestClient(create_app(site.settings, second), headers=AUTH) as other:
            assert not second.controller.holds_lease
            site.serve(2)
            wait_for(lambda: predict(other, list(trained.held.rows[:1]))["version"] == 2)
            wait_for(lambda: predict(client, list(trained.held.rows[:1]))["version"] == 2)
            assert first.controller.holds_lease
            assert not second.controller.holds_lease
