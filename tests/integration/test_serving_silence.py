"""The dead man's switch on real gateways: what does not come opens an incident, which closes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi.testclient import TestClient

from homeostat.policy import MonitorPolicy, Policy
from monitoring.signals import Signal
from registry.incidents import incident_history
from serving.app import create_app
from serving.gateway import Gateway

if TYPE_CHECKING:
    from tests.integration.conftest import HandClock, Station

AUTH = {"Authorization": "Bearer the-token"}
ROWS = [[float((n * k) % 17) for k in range(64)] for n in range(8)]
ALERTS = ("http://127.0.0.1:9/alerts",)


def predict(client: TestClient) -> list[str]:
    answer = client.post("/v1/models/digits/predict", json={"rows": ROWS})
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["predictions"]]


def label(client: TestClient, ids: list[str]) -> None:
    labels = [{"id": one, "label": 1} for one in ids]
    assert client.post("/v1/labels", json={"labels": labels}).status_code == 200


def look(gateway: Gateway) -> dict[str, str]:
    """Bring everything to the database, look once; the state of each silence's incident."""
    gateway.writer.drain()
    gateway.gathering.turn()
    gateway.controller.look()
    assert not [name for name in gateway.controller.troubles if name.startswith("silence")]
    with gateway.parts.reading() as session:
        every = incident_history(session, "digits")
    return {one.details["subject"]: one.state for one in every if one.kind == "silence"}


def test_traffic_and_labels_that_stop_are_told_and_their_return_ends_it(
    station: Callable[..., Station], hand_clock: HandClock
) -> None:
    rules = MonitorPolicy(silent_predictions_seconds=600, silent_labels_seconds=60)
    here = station(Policy(monitor=rules, alerts=ALERTS), poll_seconds=3600.0)
    with here.answering(hand_clock) as (gateway, client):
        ids = predict(client)
        label(client, ids)
        assert look(gateway) == {}
        hand_clock.advance(90)
        ids = predict(client)
        assert look(gateway) == {}  # no label can have come since the last one
        hand_clock.advance(61)
        assert look(gateway) == {"labels": "open"}
        hand_clock.advance(10)
        label(client, ids)
        assert look(gateway) == {"labels": "resolved"}
        hand_clock.advance(601)
        assert look(gateway) == {"labels": "resolved", "predictions": "open"}
        hand_clock.advance(601)
        assert look(gateway)["predictions"] == "open"
        predict(client)
        hand_clock.advance(6)
        assert look(gateway)["predictions"] == "resolved"
        listed = client.get("/v1/incidents", params={"every": True}).json()["incidents"]
    told = {one["title"]: one["severity"] for one in listed if one["kind"] == "silence"}
    assert told == {"digits:1: no traffic comes": "page", "digits:1: no labels come": "ticket"}
    assert len([one for one in listed if one["kind"] == "silence"]) == 2


def test_inputs_that_moved_are_judged_by_the_labels_since(
    station: Callable[..., Station], hand_clock: HandClock
) -> None:
    """Immature at first, then harmless: recorded, told once each, and no retrain is asked for."""
    here = station(Policy(), poll_seconds=3600.0)
    truths = here.says(1, ROWS)
    since = hand_clock().isoformat()
    moved = {"name": "pixel 1", "evidence": 9.0, "total_variation": 0.4, "broken": 0.0}
    drift = Signal("input-drift", "d", 12.0, 11.5, 90, 40, {"features": [moved], "since_at": since})
    with here.answering(hand_clock) as (gateway, client):
        gateway.watches["digits"].champion_signals = lambda: [drift]  # type: ignore[method-assign] # of this one alone
        for verdict, answer, calls in (
            ("immature", "wait", 1),
            ("harmless-drift", "do not retrain", 14),
        ):
            for _ in range(calls):
                labels = [
                    {"id": one, "label": truth}
                    for one, truth in zip(predict(client), truths, strict=True)
                ]
                client.post("/v1/labels", json={"labels": labels})
            deadline = time.monotonic() + 30  # the predictions reach the log by a thread of its own
            ruled: dict[str, str] = {}
            while ruled.get("verdict") != verdict and time.monotonic() < deadline:
                hand_clock.advance(11)
                look(gateway)
                for incident in client.get("/v1/incidents").json()["incidents"]:
                    ruled = incident["details"].get("verdict", {})
                time.sleep(0.02)
            assert (ruled["verdict"], ruled["answer"]) == (verdict, answer)
        (incident,) = client.get("/v1/incidents").json()["incidents"]
        told = [one["text"] for one in incident["events"] if one["text"].startswith("Verdict")]
        assert len(told) == 1
        assert told[0].startswith("Verdict: harmless drift, do not retrain.")
        assert "120 labels since the change" in told[0]
        assert client.get("/v1/models/digits").json()["retrains"] == []


def test_an_idle_model_without_settings_of_its_own_raises_nothing(
    station: Callable[..., Station], hand_clock: HandClock
) -> None:
    here = station(Policy(), poll_seconds=3600.0)
    with here.answering(hand_clock) as (gateway, client):
        predict(client)
        for _ in range(3):
            hand_clock.advance(86_400)
            assert look(gateway) == {}


def test_a_gateway_whose_monitor_stopped_is_seen_by_another(
    station: Callable[..., Station], hand_clock: HandClock
) -> None:
    rules = MonitorPolicy(unwatched_seconds=30)
    here = station(Policy(monitor=rules), poll_seconds=3600.0)
    here.serve(1, hand_clock())
    with contextlib.ExitStack() as stack:
        acts, other = (Gateway(here.settings, hand_clock) for _ in range(2))
        clients = [
            stack.enter_context(TestClient(create_app(here.settings, one), headers=AUTH))
            for one in (acts, other)
        ]
        look(acts)

        def traffic(turns: int) -> dict[str, str]:
            found: dict[str, str] = {}
            for _ in range(turns):
                hand_clock.advance(5)
                for client in clients:
                    predict(client)
                hand_clock.advance(5)
                other.writer.drain()
                other.gathering.turn()
                found = look(acts)
            return found

        assert traffic(7) == {}
        watching = other.watches["digits"].observe
        other.watches["digits"].observe = lambda *_: None  # type: ignore[method-assign] # of this one alone
        assert traffic(3) == {}  # what is counted late is not missed yet
        assert traffic(5) == {"monitor": "open"}
        other.watches["digits"].observe = watching  # type: ignore[method-assign] # of this one alone
        assert traffic(6) == {"monitor": "resolved"}
