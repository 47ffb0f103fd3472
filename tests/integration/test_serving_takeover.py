"""Gateways that die, sleep and wake: who may act, and what the next one knows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from homeostat.clock import Clock
from homeostat.errors import Refused
from homeostat.policy import MonitorPolicy, Policy, RetrainPolicy, RollbackPolicy
from monitoring.signals import Signal, triage
from registry import incident_history, retrain_history, routing_history, transaction
from registry.losses import LabelledLoss
from serving.app import create_app
from serving.gateway import Gateway
from serving.moves import Moves
from serving.telling import Teller

if TYPE_CHECKING:
    from tests.integration.conftest import HandClock, Station

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


ROWS = [[float((n * k) % 17) for k in range(64)] for n in range(200)]
LOSS = Signal("loss", "losses", 13.0, 11.5, 900, 80)


@contextmanager
def gateway_of(station: Station, clock: Clock | None = None) -> Iterator[Gateway]:
    """A gateway whose loop the test turns by hand."""
    gateway = Gateway(station.settings, clock) if clock else Gateway(station.settings)
    try:
        yield gateway
    finally:
        gateway.stop()


def believe(gateway: Gateway) -> None:
    """Let a gateway believe in the first lease that was ever given, as when it wakes."""
    gateway.lease._token = 1


def losses(gateway: Gateway, clock: Clock, wrong: dict[int, float], count: int) -> None:
    """Labels as the feedback hands them on: what each version loses on every row."""
    rows = [LabelledLoss(clock(), wrong) for _ in range(count)]
    gateway.watches["digits"].label(rows)


def evidence(gateway: Gateway) -> dict[str, tuple[int, float]]:
    samples = gateway.watches["digits"].samples()
    return {one.detector: (one.rows, round(one.value, 9)) for one in samples}


def told(gateway: Gateway) -> list[str]:
    with transaction(gateway.parts.maker) as session:
        return [one.kind for one in incident_history(session, "digits")]


def predict(client: TestClient, count: int, at: int = 0) -> list[dict[str, int]]:
    rows = [ROWS[(at + n) % len(ROWS)] for n in range(count)]
    answer = client.post("/v1/models/digits/predict", json={"rows": rows})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, int]] = answer.json()["predictions"]
    return found


def label(client: TestClient, given: list[dict[str, int]], *, right: bool) -> None:
    labels = [
        {"id": one["id"], "label": one["prediction"] if right else (one["prediction"] + 1) % 10}
        for one in given
    ]
    assert client.post("/v1/labels", json={"labels": labels}).status_code == 200


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come true in time")


def test_a_holder_that_slept_through_its_lease_cannot_act(
    station: Callable[..., Station], hand_clock: HandClock, database_url: str
) -> None:
    """The sleeper's clock stands still, so that it believes in its lease as long as can be."""
    asleep = hand_clock.now
    here = station(Policy(retrain=RetrainPolicy(min_labels=1)), database_url)
    here.serve(1, asleep)
    here.serve(2, asleep)
    with gateway_of(here, lambda: asleep) as old, gateway_of(here, hand_clock) as new:
        old.controller.look()
        hand_clock.advance(14)
        new.controller.look()
        assert [old.lease.held, new.lease.held] == [True, False]
        hand_clock.advance(2)
        new.controller.look()
        assert [old.lease.held, new.lease.held] == [True, True]  # the old one believes so

        before = here.routing()
        moves = Moves(old.parts, old.lease.acting)
        teller = Teller(old.parts, old.lease.acting)
        loaded = old.parts.library.load("digits", 3)
        for act in (
            lambda: moves.start_trial(loaded, before, "late", "late"),
            lambda: moves.finish_trial(loaded, before, "late", {}),
            lambda: moves.abort_trial(before, "late", "late", {}, bar=True),
            lambda: teller.open("digits", 2, LOSS, triage(LOSS)),
            lambda: teller.tell("digits", 2, "late", next_step="none"),
            old.keeper.save,
            old.lease.check,
        ):
            believe(old)
            with pytest.raises(Refused, match="lease 'controller' is held by"):
                act()
            assert not old.lease.held
        assert here.routing() == before
        assert told(old) == []

        # Whole looks of it, with a signal to act on, change as little.
        losses(old, hand_clock, {2: 1.0}, 300)
        believe(old)
        old.controller.look()
        assert not old.lease.held
        assert told(old) == []
        with transaction(old.parts.maker) as session:
            assert retrain_history(session, "digits") == []

        losses(new, hand_clock, {2: 1.0}, 300)
        new.controller.look()
        assert told(new) == ["loss"]


def test_the_next_gateway_acts_once_the_lease_of_a_dead_one_runs_out(
    station: Callable[..., Station], hand_clock: HandClock
) -> None:
    here = station()
    here.serve(1, hand_clock.now)
    with gateway_of(here, hand_clock) as dead, gateway_of(here, hand_clock) as heir:
        dead.controller.look()
        losses(heir, hand_clock, {1: 1.0}, 300)
        for _ in range(14):
            hand_clock.advance(1)
            heir.controller.look()
        assert not heir.lease.held
        assert told(heir) == []
        hand_clock.advance(1)
        heir.controller.look()
        assert heir.lease.held


def test_a_second_gateway_follows_within_two_polls_and_never_acts(
    station: Callable[..., Station], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = station(poll_seconds=0.5)
    here.serve(1)
    first, second = Gateway(here.settings), Gateway(here.settings)
    look, polls = second.controller.look, list[float]()

    def counted() -> None:
        look()
        polls.append(time.monotonic())

    monkeypatch.setattr(second.controller, "look", counted)
    with TestClient(create_app(here.settings, first), headers=AUTH):
        wait_for(lambda: first.lease.held)
        with TestClient(create_app(here.settings, second), headers=AUTH) as client:
            for version in (2, 1, 3, 1):
                here.serve(version)
                before = len(polls)
                wait_for(lambda v=version: second.fleet.serving("digits").champion.version == v)  # type: ignore[misc]  # bound now
                assert len(polls) - before <= 2
            # All that asks for an act comes to the second one alone: truths that no version says.
            said = list(zip(*(here.says(version, ROWS[:80]) for version in (1, 2, 3)), strict=True))
            given = predict(client, 80)
            labels = [
                {"id": one["id"], "label": min(set(range(10)) - set(said[place]))}
                for place, one in enumerate(given)
            ]
            assert client.post("/v1/labels", json={"labels": labels}).status_code == 200
            watch = second.watches["digits"]
            wait_for(lambda: [one.kind for one in watch.champion_signals()])
            assert not second.lease.held
            wait_for(lambda: "loss" in told(first))  # what the second one took, the first acts on
            assert first.lease.held
            assert here.routing().actor == "test"
            first.controller.stop(5.0)  # as when it is asked to end: the lease is given back
            wait_for(lambda: second.lease.held)
            assert told(second).count("loss") == 1


def test_evidence_survives_a_restart(station: Callable[..., Station]) -> None:
    here = station()
    here.serve(1)
    here.serve(2)
    first = Gateway(here.settings)
    with TestClient(create_app(here.settings, first), headers=AUTH) as client:
        for start in range(0, 40, 10):
            label(client, predict(client, 10, start), right=start > 0)
        wait_for(lambda: first.lease.held)
    before = evidence(first)
    assert before["loss"][0] == before["worse-than-standby"][0] == 40
    assert before["input-drift"][0] == 40
    second = Gateway(here.settings)
    with TestClient(create_app(here.settings, second), headers=AUTH):
        assert evidence(second) == before


def test_a_crash_loses_no_evidence_on_labels(station: Callable[..., Station]) -> None:
    """The labels that came after the last save are fed again, once."""
    here = station(Policy(rollback=RollbackPolicy(budget_labels=10**9)))
    here.serve(1)
    here.serve(2)
    here.put_on_trial(3)
    first = Gateway(here.settings.model_copy(update={"poll_seconds": 3600.0}))
    with TestClient(create_app(here.settings, first), headers=AUTH) as client:
        wait_for(lambda: first.lease.held)
        label(client, predict(client, 20), right=True)
        first.keeper.save()
        for start in (20, 30, 40):  # three calls, each its own step of the detectors
            label(client, predict(client, 10, start), right=start == 30)
        before, trial = evidence(first), first.watches["digits"].trial
        with gateway_of(here) as second:  # the first never says that it ends
            second.parts.follow("digits")
            second.keeper.restore("digits")
            after = evidence(second)
            assert second.watches["digits"].trial == trial
            assert trial is not None
            assert trial.rows == 50
            second.keeper.restore("digits")
            assert evidence(second) == after
    del before["input-drift"], after["input-drift"]  # its rows come back as traffic, not from a log
    assert after == before


def test_what_a_version_did_in_its_first_time_is_not_held_against_it(
    station: Callable[..., Station], hand_clock: HandClock
) -> None:
    here = station()
    here.serve(1, hand_clock.now)
    with gateway_of(here, hand_clock) as first:
        hand_clock.advance(1)
        first.controller.look()
        losses(first, hand_clock, {1: 1.0}, 300)
        first.keeper.save()
        hand_clock.advance(1)
        here.serve(2, hand_clock.now)
        hand_clock.advance(1)
        here.serve(1, hand_clock.now)  # and it dies before it saves again
        with gateway_of(here, hand_clock) as second:
            hand_clock.advance(1)
            second.parts.follow("digits")
            second.keeper.restore("digits")
            assert evidence(second)["loss"][0] == 0


def test_labels_count_by_the_time_of_their_predictions_where_the_policy_says_so(
    station: Callable[..., Station], hand_clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Complaints come at once, praise late: by arrival it looks like a fall, by age it is none."""
    monkeypatch.setattr("serving.frontier.LOAD", 0.0)  # hours pass here in seconds: no look rests
    found: dict[float | None, Station] = {}
    for delay in (0.0, 60.0, None):
        quick: list[dict[str, int]]
        slow: list[dict[str, int]]
        policy = Policy(monitor=MonitorPolicy(label_delay_seconds=delay, tolerance_loss=0.3))
        here = found[delay] = station(policy) if not found else _again(found[0.0], policy)
        gateway = Gateway(here.settings, hand_clock)
        if delay == 0.0:
            here.serve(1, hand_clock.now - timedelta(seconds=1))
        app = create_app(here.settings, gateway)
        signals: list[bool] = []
        with TestClient(app, headers=AUTH) as client:
            slow = []
            for minute in range(4):
                given = predict(client, 60, minute * 60 % 120)
                quick, late = given[:10], given[10:]
                label(client, quick, right=False)
                if slow:
                    label(client, slow, right=True)
                slow = late
                for _ in range(12):
                    hand_clock.advance(5)
                    gateway.feedback.following.catch_up()
                    signals.append(gateway.watches["digits"].loss_drift)
            rows = evidence(gateway)["loss"][0]
        assert any(signals) == (delay == 0.0)
        # Where nothing is set, the last minute's ten wait for its fifty.
        assert rows == {0.0: rows, 60.0: 4 * 10 + 3 * 50, None: 3 * 60}[delay]


def _again(station: Station, policy: Policy) -> Station:
    """The same state folder without what its detectors saw."""
    from sqlalchemy import delete

    from registry import connect, sessions
    from registry.tables import DetectorStateRow, LossRow

    with transaction(sessions(connect(station.settings.database))) as session:
        session.execute(delete(DetectorStateRow))
        session.execute(delete(LossRow))
    settings = station.settings.model_copy(update={"models": {"digits": policy}})
    return type(station)(settings, station.digests)


def test_labels_that_are_held_back_survive_a_crash(
    station: Callable[..., Station], hand_clock: HandClock
) -> None:
    here = station(Policy(monitor=MonitorPolicy(label_delay_seconds=60)), poll_seconds=3600.0)
    here.serve(1, hand_clock.now - timedelta(seconds=1))
    first = Gateway(here.settings, hand_clock)
    with TestClient(create_app(here.settings, first), headers=AUTH) as client:
        wait_for(lambda: first.lease.held)
        label(client, predict(client, 10), right=True)
        hand_clock.advance(30)
        label(client, predict(client, 10, 10), right=True)
        assert evidence(first)["loss"][0] == 0
        hand_clock.advance(10)
        assert first.lease.hold()
        first.keeper.save()
        hand_clock.advance(5)
        label(client, predict(client, 10, 20), right=True)
        with gateway_of(here, hand_clock) as second:
            second.parts.follow("digits")
            second.keeper.restore("digits")
            seen = []
            for _ in range(5):
                second.feedback.following.catch_up()
                seen.append(evidence(second)["loss"][0])
                hand_clock.advance(15)
            assert seen == [0, 10, 10, 20, 30]


def test_the_deciding_label_sends_traffic_back_on_either_database(
    station: Callable[..., Station], database_url: str
) -> None:
    here = station(database_url=database_url)
    here.serve(1)
    here.serve(2)
    gateway = Gateway(here.settings)
    with TestClient(create_app(here.settings, gateway), headers=AUTH) as client:
        assert predict(client, 1)[0]["version"] == 2
        truths = here.says(1, ROWS)
        needed = 0
        while needed < 200 and predict(client, 1)[0]["version"] == 2:
            given = predict(client, 10, needed)
            labels = [
                {"id": one["id"], "label": truths[(needed + place) % len(ROWS)]}
                for place, one in enumerate(given)
            ]
            answer = client.post("/v1/labels", json={"labels": labels})
            assert answer.status_code == 200, answer.text
            again = client.post("/v1/labels", json={"labels": labels})
            assert {one["status"] for one in again.json()["results"]} == {"duplicate"}
            needed += 10
        assert needed <= 60
        assert predict(client, 1)[0]["version"] == 1
        wrong = [{"id": given[0]["id"], "label": (labels[0]["label"] + 1) % 10}]
        assert client.post("/v1/labels", json={"labels": wrong}).status_code == 409
        incident = when_claimed(client)
        assert (incident["kind"], incident["state"]) == ("worse-than-standby", "mitigated")
        with transaction(gateway.parts.maker) as session:
            actors = [one.actor for one in routing_history(session, "digits")]
        assert actors == ["test", "test", "guard"]
        wish = {"version": 2, "reason": "it is right after all", "override": True}
        assert client.post("/v1/models/digits/promote", json=wish).status_code == 200
        back = client.post("/v1/models/digits/rollback", json={"reason": "enough"})
        assert back.json()["champion"] == 1
        history = client.get("/v1/models/digits/history").json()
        assert len(history["routings"]) == 5
        assert history["before"] is None
        newest = client.get("/v1/models/digits/history?limit=2").json()
        assert newest["routings"] == history["routings"][3:]
        assert {one["generation"] for one in newest["releases"]} == {4, 5}
        assert newest["before"] == 4
        older = client.get("/v1/models/digits/history?limit=2&before=4").json()
        assert [one["generation"] for one in older["routings"]] == [2, 3]
        for bad in ("limit=0", "limit=1001", "before=0", "limit=x"):
            assert client.get(f"/v1/models/digits/history?{bad}").status_code == 400
        assert client.get("/v1/models/digits").json()["evidence"]
