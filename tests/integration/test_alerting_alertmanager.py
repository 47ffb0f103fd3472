"""From a signal to the real Alertmanager and back to quiet."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi.testclient import TestClient

import serving.courier
from homeostat.clock import utc_now
from homeostat.policy import MonitorPolicy, Policy
from monitoring import Alert
from monitoring.alertmanager import postable
from serving.gateway import Gateway
from tests.asking import ask

if TYPE_CHECKING:
    from tests.integration.conftest import HandClock, Station

PROGRAM = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
needs_alertmanager = pytest.mark.skipif(
    PROGRAM is None, reason="needs Alertmanager: apt install prometheus-alertmanager"
)
CONFIG = """
route: {receiver: nobody, group_by: [incident], group_wait: 1s, group_interval: 1s}
receivers: [{name: nobody}]
"""
ROWS = [[float((n * k) % 17) for k in range(64)] for n in range(8)]
OPENED = datetime(2026, 11, 26, 3, tzinfo=UTC)
ALERT = Alert(
    id="1",
    key="digits:1@g1",
    status="open",
    severity="ticket",
    title="digits:1: the inputs changed",
    text="The inputs moved.",
    model="digits",
    at=OPENED,
    details={"opened_at": OPENED.isoformat(), "undo": "", "runbook": "docs/runbooks/x.md"},
)


@contextmanager
def alertmanager(folder: Path, port: int) -> Iterator[str]:
    """The real one, with an empty memory."""
    config = folder / "alertmanager.yml"
    config.write_text(CONFIG)
    url = f"http://127.0.0.1:{port}"
    command = [
        str(PROGRAM),
        f"--config.file={config}",
        f"--storage.path={folder / str(time.monotonic_ns())}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with (folder / "alertmanager.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_for(lambda: answers(f"{url}/-/ready"), (folder / "alertmanager.log").read_text)
            yield url
        finally:
            process.terminate()
            process.wait(10)


def answers(url: str) -> bool:
    try:
        return ask("GET", url, timeout=2.0).is_success
    except httpx.HTTPError:
        return False


def wait_for(holds: Callable[[], Any], told: Callable[[], object] = str) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, told()
        time.sleep(0.05)


def firing(url: str) -> list[dict[str, Any]]:
    answer = ask("GET", f"{url}/api/v2/alerts", timeout=5.0)
    return list(answer.raise_for_status().json())


@pytest.fixture
def port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def look(gateway: Gateway) -> None:
    gateway.writer.drain()
    gateway.gathering.turn()
    gateway.controller.look()


def predict(client: TestClient) -> None:
    assert client.post("/v1/models/digits/predict", json={"rows": ROWS}).status_code == 200


@needs_alertmanager
def test_a_silence_fires_in_alertmanager_through_its_restart_until_it_is_over(
    station: Callable[..., Station],
    hand_clock: HandClock,
    tmp_path: Path,
    port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving.courier, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(serving.courier, "AGAIN_SECONDS", 0.2)
    hand_clock.now = utc_now() - timedelta(hours=1)
    policy = Policy(
        monitor=MonitorPolicy(silent_predictions_seconds=600),
        alerts=(f"alertmanager+http://127.0.0.1:{port}",),
    )
    here = station(policy, poll_seconds=3600.0)
    with here.answering(hand_clock) as (gateway, client):

        def turn() -> bool:
            hand_clock.advance(6)
            look(gateway)
            return True

        def story() -> str:
            return str(client.get("/v1/incidents", params={"every": True}).json())

        predict(client)
        look(gateway)
        hand_clock.advance(601)
        turn()
        (incident,) = client.get("/v1/incidents").json()["incidents"]
        with alertmanager(tmp_path, port) as url:  # it was away when the alert arose
            wait_for(lambda: turn() and firing(url), story)
            (alert,) = firing(url)
            assert alert["labels"] == {
                "alertname": "HomeostatIncident",
                "incident": incident["key"],
                "model": "digits",
                "severity": "page",
            }
            says = alert["annotations"]
            assert says["summary"] == "digits:1: no traffic comes"
            assert says["runbook_url"] == "docs/runbooks/silence-predictions.md"
            assert "see whether callers still reach a gateway" in says["description"]
            assert alert["status"]["state"] == "active"
            lasts = datetime.fromisoformat(alert["endsAt"]) - utc_now()
            assert timedelta(minutes=3) < lasts <= timedelta(minutes=5)
        with alertmanager(tmp_path, port) as url:  # which has forgotten everything
            wait_for(lambda: firing(url))
            assert firing(url)[0]["fingerprint"] == alert["fingerprint"]
            predict(client)
            wait_for(lambda: turn() and not firing(url), story)
        listed = client.get("/v1/incidents", params={"every": True}).json()["incidents"]
    assert [one["state"] for one in listed] == ["resolved"]


@needs_alertmanager
def test_a_ticket_that_becomes_a_page_fires_as_one_alert(tmp_path: Path, port: int) -> None:
    now = utc_now()
    with alertmanager(tmp_path, port) as url:

        def show(severity: str, status: str, shown: list[str]) -> None:
            changes = {"severity": severity, "status": status, "at": utc_now()}
            body = postable(Alert(**vars(ALERT) | changes), now)
            answer = ask("POST", f"{url}/api/v2/alerts", json=body)
            assert answer.status_code == 200, answer.text
            wait_for(lambda: [one["labels"]["severity"] for one in firing(url)] == shown)

        show("ticket", "open", ["ticket"])
        show("page", "update", ["page"])
        show("page", "resolved", [])


def test_what_alertmanager_knows_an_alert_by_stays_the_same_to_its_end() -> None:
    later = OPENED + timedelta(hours=2)
    (opened,) = postable(ALERT, OPENED)
    (again,) = postable(ALERT, later)
    resolved = Alert(**vars(ALERT) | {"status": "resolved", "at": later})
    (ended,) = postable(resolved, later + timedelta(days=1))
    assert opened["labels"] == again["labels"] == ended["labels"]
    assert opened["startsAt"] == again["startsAt"] == ended["startsAt"] == OPENED.isoformat()
    assert opened["endsAt"] == (OPENED + timedelta(minutes=5)).isoformat()
    assert ended["endsAt"] == later.isoformat()
