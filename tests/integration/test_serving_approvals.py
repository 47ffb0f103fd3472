"""Approvals over HTTP, and the command that shows a verdict."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from homeostat.policy import Policy
from homeostat.settings import Settings
from registry import (
    GateFigure,
    MlflowVersions,
    Verdict,
    connect,
    record_verdict,
    sessions,
    transaction,
)
from serving.app import create_app
from serving.gateway import Gateway

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
NOWHERE = "http://127.0.0.1:9"  # nothing listens there
AUTH = {"Authorization": "Bearer the-token"}
DIGEST = "d" * 64
FIGURE = GateFigure("accuracy", 0.93, 0.8, True, "Accuracy 0.930.")
ROUTE = "/v1/models/digits/approvals"


class Registered(MlflowVersions):
    """MLflow that knows every version as one artifact."""

    def digest(self, model: str, version: int) -> str:  # noqa: ARG002 - as its parent
        return DIGEST


@pytest.fixture
def settings(tmp_path: Path, migrated_sqlite: Path) -> Settings:
    shutil.copy(migrated_sqlite, tmp_path / "lifecycle.db")
    return Settings(
        state_dir=tmp_path,
        mlflow_url=NOWHERE,
        prefect_url=NOWHERE,
        token=SecretStr("the-token"),
        models={"digits": Policy.model_validate({"gates": {"approvals": 2}})},
    )


@pytest.fixture
def client(settings: Settings) -> TestClient:
    gateway = Gateway(settings, store=Registered(NOWHERE))
    return TestClient(create_app(settings, gateway), headers=AUTH)


def judged(settings: Settings, verdict: Verdict, version: int = 1) -> None:
    with transaction(sessions(connect(settings.database))) as session:
        record_verdict(session, "digits", version, verdict, NOON)


def approval(person: str, **more: object) -> dict[str, object]:
    return {"version": 1, "reason": "looked at it", "person": person, **more}


def test_two_people_approve_a_version_over_http(client: TestClient, settings: Settings) -> None:
    verdict = Verdict(True, (FIGURE,), DIGEST, 0.05, {}, NOON)
    judged(settings, verdict)
    first = client.post(ROUTE, json=approval("ann")).json()
    assert first["waits"] == "1 of 2 approvals: waits for 1 more person (approved by ann)."
    assert client.post(ROUTE, json=approval("ann")).json() == first
    second = client.post(ROUTE, json=approval("bob", seen=verdict.hash[:12])).json()
    assert [each["person"] for each in second["approvals"]] == ["ann", "bob"]
    assert (second["waits"], second["verdict"]) == ("", verdict.hash)
    assert len(second["approvals"][0]["token"]) == 12


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (approval("ann"), 409, "gate-refused"),
        (approval(""), 400, "invalid-request"),
        (approval("ann", seen="not a hash"), 400, "invalid-request"),
        (approval("ann", as_whom="bob"), 400, "invalid-request"),
        ({"version": 1, "person": "ann"}, 400, "invalid-request"),
    ],
)
def test_what_cannot_be_approved_is_told_as_a_problem(
    client: TestClient, body: Mapping[str, object], status: int, code: str
) -> None:
    answer = client.post(ROUTE, json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_nobody_approves_without_the_token_or_for_an_unknown_model(client: TestClient) -> None:
    assert (
        client.post(ROUTE, json=approval("ann"), headers={"Authorization": ""}).status_code == 401
    )
    assert client.post("/v1/models/none/approvals", json=approval("ann")).status_code == 404


def verdict_command(settings: Settings, *arguments: str) -> tuple[int, str]:
    """What `homeostat verdict` says, and its exit code; every server is away."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(settings.state_dir),
        "PYTHONPATH": ":".join(sys.path),
        "HOMEOSTAT_STATE_DIR": str(settings.state_dir),
        "HOMEOSTAT_MLFLOW_URL": NOWHERE,
        "HOMEOSTAT_MODELS": json.dumps({"digits": {"gates": {"approvals": 2}}}),
    }
    command = [sys.executable, "-m", "homeostat", "verdict", "digits", *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        cwd=settings.state_dir,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_command_shows_a_verdict_with_every_server_away(settings: Settings) -> None:
    judged(settings, Verdict(True, (FIGURE,), DIGEST, 0.05, {}, NOON))
    code, said = verdict_command(settings, "1")
    assert code == 0, said
    assert "Accuracy 0.930." in said
    assert "not checked" in said
    assert "may not take traffic. 0 of 2 approvals: waits for 2 more people." in said
    judged(settings, Verdict(False, (), DIGEST, 0.05, {}, NOON), 2)
    assert verdict_command(settings, "2")[0] == 4
    code, said = verdict_command(settings, "3", "--json")
    found: dict[str, Any] = json.loads(said)
    assert (code, found["verdict"], found["reason"]) == (4, None, "No gate has judged it.")
