"""From labels that say otherwise to an incident, its alert, and a retrain asked of Prefect."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from pydantic import SecretStr

from homeostat.clock import utc_now
from homeostat.policy import Policy, RetrainPolicy
from homeostat.settings import Settings
from models.artifact import save_model
from models.digits import Digits
from monitoring.profile import Profile
from registry import connect, promote, sessions, transaction
from registry.cache import ArtifactCache
from serving.app import create_app
from tests.integration.prefect_stub import Stub, serving

AUTH = {"Authorization": "Bearer the-token"}
ROWS = [[float((n * k) % 17) for k in range(64)] for n in range(200)]


@pytest.fixture
def stub() -> Iterator[Stub]:
    found = Stub()
    with serving(found):
        yield found


@pytest.fixture
def client(tmp_path: Path, migrated_sqlite: Path, stub: Stub) -> Iterator[TestClient]:
    """A gateway whose champion is an untrained net: the labels decide whether it is right."""
    state = tmp_path / "state"
    (state / "versions").mkdir(parents=True)
    shutil.copy(migrated_sqlite, state / "lifecycle.db")
    learner = Digits.from_data(ROWS, [n % 10 for n in range(len(ROWS))], {})
    module = learner.build(torch.Generator().manual_seed(0))
    x = learner.encode(ROWS)
    outputs = learner.predict(module, x)
    profile = Profile.from_reference(
        learner.features,
        learner.task,
        learner.observe(x),
        learner.predicted(outputs),
        learner.confidence(outputs),
        [0.0] * len(ROWS),
    )
    made = tmp_path / "made"
    extra = {"profile.json": profile.to_json().encode()}
    digest = save_model(made, "digits", learner, module, extra)
    made.rename(state / "versions" / digest)
    ArtifactCache(state / "versions").remember("digits", 1, digest)
    policy = Policy(
        alerts=(f"{stub.url}/alerts",), retrain=RetrainPolicy(min_labels=60, cool_down_seconds=0.0)
    )
    settings = Settings(
        state_dir=state,
        token=SecretStr("the-token"),
        mlflow_url="http://127.0.0.1:9",
        prefect_url=f"{stub.url}/api",
        poll_seconds=0.1,
        models={"digits": policy},
    )
    with transaction(sessions(connect(settings.database))) as session:
        promote(
            session,
            "digits",
            1,
            actor="test",
            reason="the test says so",
            evidence={},
            now=utc_now(),
            digest=digest,
        )
    with TestClient(create_app(settings), headers=AUTH) as client:
        yield client


def stream(client: TestClient, *, right: bool, count: int = 20) -> None:
    body = client.post("/v1/models/digits/predict", json={"rows": ROWS[:count]}).json()
    labels = [
        {"id": one["id"], "label": one["prediction"] if right else (one["prediction"] + 1) % 10}
        for one in body["predictions"]
    ]
    assert client.post("/v1/labels", json={"labels": labels}).status_code == 200


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come true in time")


def incidents(client: TestClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/v1/incidents").json()["incidents"]
    return found


def story(client: TestClient) -> str:
    return " ".join(event["text"] for one in incidents(client) for event in one["events"])


def test_a_loss_opens_an_incident_alerts_and_is_retrained_when_prefect_is_there(
    client: TestClient, stub: Stub
) -> None:
    for _ in range(3):
        stream(client, right=True)
    assert incidents(client) == []
    for _ in range(4):
        stream(client, right=False)
    wait_for(lambda: stub.alerts)
    alert = stub.alerts[0]
    assert (alert["specversion"], alert["type"]) == ("1.0", "homeostat.incident.open")
    (incident,) = incidents(client)
    assert (incident["kind"], incident["severity"]) in {("loss", "page"), ("input-drift", "page")}
    wait_for(lambda: "waits for Prefect" in story(client))
    assert stub.runs == []

    stub.prefect_away = False
    wait_for(lambda: stub.runs)
    (run,) = stub.runs
    key = f"{incident['id']}/1"
    wish = {"model": "digits", "incident_id": incident["id"], "key": key}
    assert run == {"parameters": wish, "idempotency_key": key}
    stream(client, right=False)
    assert len(stub.runs) == 1  # one at a time

    stub.state = "CRASHED"
    wait_for(lambda: len(stub.runs) == 2)
    assert stub.runs[1]["idempotency_key"] == f"{incident['id']}/2"
    assert "ended as crashed" in story(client)

    answer = client.post(f"/v1/incidents/{incident['id']}/acknowledge", json={"actor": "ann"})
    assert answer.json()["state"] == "acknowledged"
    assert "homeostat_incidents_open" in client.get("/metrics").text
