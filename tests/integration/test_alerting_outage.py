"""Alerts through outages of their receivers and crashes of ours: none lost, none out of order."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

import serving.courier
from homeostat.policy import Policy
from homeostat.setting_tables import AlertingSettings
from monitoring import Signal, Triage
from registry.incidents import acknowledge, open_incidents, raise_signal, resolve
from registry.outbox import undelivered
from serving.courier import Courier
from serving.gateway import Gateway

if TYPE_CHECKING:
    from tests.integration.conftest import HandClock, Station

LOSS = Signal("loss", "LossDetector", 12, 11.5, 90, 40, {})
PAGE = Triage("page", "retrain", "Accuracy fell.")
AWAY = 0  # the connection is closed without an answer
SIGNED_BY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Receiver(ThreadingHTTPServer):
    """Answers with the status of the moment and keeps what it took."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = 202
        self.calls = 0
        self.took: list[tuple[str, str]] = []
        self.signatures: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.calls += 1
        if isinstance(event, list):  # Alertmanager's
            event = {"id": "", "data": {"details": {"state": ""}}}
        if self.server.status == AWAY:
            return
        if self.server.status == 202:
            self.server.took.append((event["id"], event["data"]["details"]["state"]))
            self.server.signatures.append(self.headers["webhook-signature"])
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receivers() -> Iterator[tuple[Receiver, Receiver]]:
    """One that will be away, and one that is there."""
    with Receiver() as first, Receiver() as second:
        for one in (first, second):
            threading.Thread(target=one.serve_forever, args=(0.05,), daemon=True).start()
        yield first, second
        for one in (first, second):
            one.shutdown()


class Desk:
    """A gateway's courier whose clock the test moves; nothing else of the gateway runs."""

    def __init__(self, here: Station, clock: HandClock) -> None:
        here.serve(1, clock())
        self.clock = clock
        self.gateway = Gateway(here.settings, clock)
        self.courier = self.start()

    def start(self) -> Courier:
        """Another courier, as after a restart."""
        return Courier(self.gateway.parts, lambda: True, threading.Event())

    def waiting(self) -> int:
        with self.gateway.parts.reading() as session:
            return len(undelivered(session))

    def whole_incident(self) -> None:
        """Open, acknowledged and over, with an alert of each."""
        alerts = self.gateway.parts.policy("digits").alerts
        with self.gateway.parts.writing() as session:
            one = raise_signal(session, "digits", 1, LOSS, PAGE, self.clock(), "", alerts)
            acknowledge(session, one.id, "ann", self.clock(), alerts)
            resolve(session, one.id, "Over.", self.clock(), alerts)


STATES = ["open", "acknowledged", "resolved"]


@pytest.mark.parametrize("status", [AWAY, 429, 500])
def test_half_an_hour_without_a_receiver_loses_nothing_and_holds_nobody_up(
    station: Callable[..., Station],
    hand_clock: HandClock,
    receivers: tuple[Receiver, Receiver],
    status: int,
) -> None:
    away, there = receivers
    away.status = status
    alerting = AlertingSettings(webhook_secret=SecretStr(SIGNED_BY))
    desk = Desk(station(Policy(alerts=(away.url, there.url)), alerting=alerting), hand_clock)
    desk.whole_incident()
    for _ in range(3):
        desk.courier.work_off()
    assert [state for _, state in there.took] == STATES
    assert all(one.startswith("v1,") for one in there.signatures)
    for _ in range(120):
        hand_clock.advance(15)
        desk.courier.work_off()
    assert away.took == []
    assert away.calls < 80  # at most each 30 seconds
    away.status, back = 202, hand_clock()
    while desk.waiting():
        hand_clock.advance(1)
        desk.courier.work_off()
    assert (hand_clock() - back).total_seconds() <= 60
    assert [state for _, state in away.took] == STATES
    assert away.took == there.took


def test_a_crash_between_arrival_and_note_repeats_the_alert_by_the_same_id(
    station: Callable[..., Station],
    hand_clock: HandClock,
    receivers: tuple[Receiver, Receiver],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver, _ = receivers
    desk = Desk(station(Policy(alerts=(receiver.url,))), hand_clock)
    desk.whole_incident()

    def die(*_: object) -> None:
        raise SystemExit  # as killed: nothing of ours sees it

    with monkeypatch.context() as patch:
        patch.setattr(serving.courier, "delivered", die)
        with pytest.raises(SystemExit):
            desk.courier.work_off()
    desk.courier = desk.start()
    while desk.waiting():
        desk.courier.work_off()
    (first, _), (again, _), *rest = receiver.took
    assert first == again
    assert [state for _, state in rest] == STATES[1:]


def test_what_waits_for_a_key_that_was_changed_goes_to_the_new_one(
    station: Callable[..., Station], hand_clock: HandClock, receivers: tuple[Receiver, Receiver]
) -> None:
    wrong, right = receivers
    wrong.status = 403
    here = station(Policy(alerts=(wrong.url,)))
    before = Desk(here, hand_clock)
    before.whole_incident()
    before.courier.work_off()
    assert before.waiting() == 3

    policy = Policy(alerts=(right.url,))
    settings = here.settings.model_copy(update={"models": {"digits": policy}})
    after = Gateway(settings, hand_clock)
    courier = Courier(after.parts, lambda: True, threading.Event())
    for _ in range(60):
        hand_clock.advance(1)
        courier.work_off()
    assert [state for _, state in right.took] == STATES
    assert before.waiting() == 0
    assert wrong.calls == 1


def test_what_fires_is_sent_again_each_minute_and_one_that_is_away_is_asked_once(
    station: Callable[..., Station],
    hand_clock: HandClock,
    receivers: tuple[Receiver, Receiver],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver, _ = receivers
    address = f"alertmanager+{receiver.url}"
    desk = Desk(station(Policy(alerts=(address,))), hand_clock)
    with desk.gateway.parts.writing() as session:
        for version in (1, 2, 3):
            raise_signal(session, "digits", version, LOSS, PAGE, hand_clock(), "", (address,))
    desk.courier.work_off()
    assert (receiver.calls, desk.courier.remind()) == (3, 0)  # they were sent just now
    monkeypatch.setattr(serving.courier, "AGAIN_SECONDS", 0.0)
    assert (desk.courier.remind(), receiver.calls) == (3, 6)
    receiver.status = 500
    assert (desk.courier.remind(), receiver.calls) == (0, 7)
    receiver.status = 202
    with desk.gateway.parts.writing() as session:
        for one in open_incidents(session, "digits")[1:]:
            resolve(session, one.id, "Over.", hand_clock(), (address,))
    assert desk.courier.remind() == 1  # and those that are over wait in the outbox
