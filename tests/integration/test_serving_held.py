"""Labels that wait for a person, over HTTP."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import insert
from uuid6 import uuid7

from homeostat.policy import Policy
from homeostat.settings import Settings
from registry import connect, sessions, transaction
from registry.ledger import lines_of
from registry.tables import HeldLabelRow
from serving.app import create_app

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
NOWHERE = "http://127.0.0.1:9"  # nothing listens there
AUTH = {"Authorization": "Bearer the-token"}
ROUTE = "/v1/models/digits/held-labels"


@pytest.fixture
def settings(tmp_path: Path, migrated_sqlite: Path) -> Settings:
    shutil.copy(migrated_sqlite, tmp_path / "lifecycle.db")
    return Settings(
        state_dir=tmp_path,
        mlflow_url=NOWHERE,
        prefect_url=NOWHERE,
        token=SecretStr("the-token"),
        models={"digits": Policy()},
    )


@pytest.fixture
def client(settings: Settings) -> TestClient:
    row = {
        "model": "digits",
        "source": "bot",
        "reason": "new-source",
        "text": "It contradicts the others.",
        "at": NOON,
        "decision": "",
    }
    with transaction(sessions(connect(settings.database))) as session:
        rows = [{**row, "prediction_id": str(uuid7())} for _ in range(3)]
        session.execute(insert(HeldLabelRow), rows)
    return TestClient(create_app(settings), headers=AUTH)


def test_what_is_held_back_is_shown_and_released(client: TestClient, settings: Settings) -> None:
    (held,) = client.get(ROUTE).json()["held"]
    assert (held["source"], held["reason"], held["count"]) == ("bot", "new-source", 3)

    body = {"decision": "released", "source": "bot", "reason": "checked", "actor": "ann"}
    said = client.post(ROUTE, json=body).json()

    assert (said["labels"], said["actor"]) == (3, "ann")
    assert [each["decision"] for each in client.get(ROUTE).json()["held"]] == ["released"]
    with transaction(sessions(connect(settings.database))) as session:
        assert [line.kind for line in lines_of(session, "digits")] == ["labels-released"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"decision": "released", "source": "nobody", "reason": "checked"}, 409),
        ({"decision": "kept", "reason": "checked"}, 400),
        ({"decision": "dropped"}, 400),
    ],
)
def test_what_cannot_be_decided_is_a_problem(
    client: TestClient, body: dict[str, object], status: int
) -> None:
    assert client.post(ROUTE, json=body).status_code == status
    assert [each["decision"] for each in client.get(ROUTE).json()["held"]] == [""]
