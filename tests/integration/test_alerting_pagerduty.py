"""An incident through PagerDuty's Events API, as documented: trigger, acknowledge, resolve."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from homeostat.clock import utc_now
from homeostat.policy import MonitorPolicy, Policy
from homeostat.setting_tables import AlertingSettings
from monitoring import Alert, DeliveryFailed
from monitoring.delivery import deliver
from monitoring.outbound import Guard, Sending
from registry.outbox import undelivered

if TYPE_CHECKING:
    from tests.integration.conftest import HandClock, Station

KEY = "R0UTINGKEY0123456789012345678901"
ROWS = [[float((n * k) % 17) for k in range(64)] for n in range(8)]


class PagerDuty(ThreadingHTTPServer):
    """Its Events API v2: takes what it documents and keeps the state of each key."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.busy = 1  # calls that are answered with 429 first
        self.states: dict[str, list[str]] = {}
        self.events: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def take(self, path: str, event: dict[str, Any]) -> int:
        """The status by the documented rules."""
        if path != "/v2/enqueue":
            return 404
        if self.busy:
            self.busy -= 1
            return 429
        action, payload = event.get("event_action"), event.get("payload", {})
        if event.get("routing_key") != KEY or action not in ("trigger", "acknowledge", "resolve"):
            return 400
        if action == "trigger" and (
            not {"summary", "source", "severity"} <= payload.keys()
            or payload["severity"] not in ("critical", "error", "warning", "info")
        ):
            return 400
        self.events.append(event)
        self.states.setdefault(event["dedup_key"], []).append(action)
        return 202


class Handler(BaseHTTPRequestHandler):
    server: PagerDuty

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.server.take(self.path, body))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def pagerduty() -> Iterator[PagerDuty]:
    with PagerDuty() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


def test_an_incident_is_triggered_acknowledged_and_resolved_by_one_key(
    station: Callable[..., Station], hand_clock: HandClock, pagerduty: PagerDuty
) -> None:
    policy = Policy.model_validate(
        {
            "monitor": MonitorPolicy(silent_predictions_seconds=600),
            "alerts": [{"to": f"pagerduty://{KEY}", "severity": "page"}],
        }
    )
    alerting = AlertingSettings(pagerduty_url=pagerduty.url)
    here = station(policy, poll_seconds=3600.0, alerting=alerting)
    with here.answering(hand_clock) as (gateway, client):

        def waiting() -> list[tuple[str, int, str]]:
            with gateway.parts.reading() as session:
                return undelivered(session)

        def until(actions: list[str]) -> None:
            deadline = time.monotonic() + 30
            # What has arrived is noted a moment later, by the courier's own thread.
            while list(pagerduty.states.values()) != [actions] or waiting():
                assert time.monotonic() < deadline, (pagerduty.states, gateway.controller.troubles)
                hand_clock.advance(6)
                gateway.writer.drain()
                gateway.gathering.turn()
                gateway.controller.look()
                time.sleep(0.05)

        client.post("/v1/models/digits/predict", json={"rows": ROWS})
        gateway.writer.drain()
        gateway.controller.look()
        hand_clock.advance(601)
        until(["trigger"])  # after it was told 429
        (incident,) = client.get("/v1/incidents").json()["incidents"]
        client.post(f"/v1/incidents/{incident['id']}/acknowledge", json={"actor": "ann"})
        until(["trigger", "acknowledge"])
        client.post("/v1/models/digits/predict", json={"rows": ROWS})
        until(["trigger", "acknowledge", "resolve"])
    payload = pagerduty.events[0]["payload"]
    assert payload["summary"] == "digits:1: no traffic comes"
    assert payload["custom_details"]["runbook"] == "docs/runbooks/silence-predictions.md"


def test_a_key_that_pagerduty_does_not_know_is_told_without_the_key(pagerduty: PagerDuty) -> None:
    alert = Alert("1", "k", "open", "page", "It fails", "Look.", "digits", utc_now())
    pagerduty.busy = 0
    sending = Sending(Guard(loopback=True), pagerduty_url=pagerduty.url)
    with pytest.raises(DeliveryFailed, match=r"pagerduty://\*\*\* .* answered 400") as caught:
        deliver("pagerduty://wrongkey", alert, sending)
    assert "wrongkey" not in str(caught.value) + str(caught.value.fields)
