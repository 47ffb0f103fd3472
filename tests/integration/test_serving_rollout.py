"""Trials that people steer: paused, going on, skipped, ended; and those without a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from homeostat.errors import GateRefused, Refused, StaleGeneration
from homeostat.policy import Policy, RolloutPolicy
from registry import incident_history, lines_of, routing_history, transaction
from registry.losses import LabelledLoss
from registry.permits import grant_override
from registry.tables import OutboxRow
from registry.trials import TRIAL
from serving.gateway import Gateway
from serving.steering import Wanted, steer

if TYPE_CHECKING:
    from tests.integration.conftest import HandClock, Station

PAGER = ("http://127.0.0.1:9/alerts",)
ANN = Wanted("digits", "ann", "I want to look at it first")


class Stage:
    """A gateway whose loop the test turns: version 1 answers, version 2 is on trial."""

    def __init__(self, station: Station, clock: HandClock) -> None:
        self.station, self.clock = station, clock
        self.gateway = self.open()

    def open(self) -> Gateway:
        gateway = Gateway(self.station.settings, self.clock)
        gateway.prover.now = lambda: self.clock().timestamp()
        return gateway

    def restart(self) -> None:
        self.gateway.controller.stop(1.0)
        self.gateway.stop()
        self.gateway = self.open()
        self.look()

    def look(self, seconds: float = 1.0) -> None:
        self.clock.advance(seconds)
        self.gateway.controller.look()
        self.gateway.prover.look("digits")

    def label(self, losses: dict[int, float], count: int) -> None:
        rows = [LabelledLoss(self.clock(), losses) for _ in range(count)]
        self.gateway.watches["digits"].label(rows)

    def earn(self, challenger: int = 2) -> None:
        """Labels until the challenger is shown to be not worse."""
        self.label({1: 1.0, challenger: 0.0}, 5)
        for _ in range(4):
            self.label({1: 0.0, challenger: 0.0}, 300)
        trial = self.gateway.watches["digits"].trial
        assert trial is not None
        assert trial.decision == "not-worse"

    @property
    def rows(self) -> int:
        trial = self.gateway.watches["digits"].trial
        return 0 if trial is None else trial.rows

    def roles(self) -> tuple[int, int | None, str]:
        routing = self.station.routing()
        return routing.champion, routing.challenger, routing.phase

    def alerts(self) -> list[str]:
        with transaction(self.gateway.parts.maker) as session:
            found = session.scalars(select(OutboxRow.alert).order_by(OutboxRow.id))
            return [str(one["text"]) for one in found]

    def lines(self) -> list[tuple[str, str, str | None]]:
        with transaction(self.gateway.parts.maker) as session:
            every = lines_of(session, "digits")
        return [(one.actor, one.reason, one.after) for one in every if one.kind == TRIAL]


@pytest.fixture
def stage(station: Callable[..., Station], hand_clock: HandClock) -> Callable[..., Any]:
    @contextmanager
    def make(rollout: RolloutPolicy | None = None) -> Iterator[Stage]:
        here = station(Policy(alerts=PAGER, rollout=rollout or RolloutPolicy()))
        here.serve(1, hand_clock.now)
        here.put_on_trial(2, hand_clock.now)
        found = Stage(here, hand_clock)
        try:
            found.look()
            yield found
        finally:
            found.gateway.stop()

    return make


def test_a_paused_trial_keeps_its_evidence_and_its_deadline_stands_still(
    stage: Callable[..., Any],
) -> None:
    with stage(RolloutPolicy(deadline_seconds=600)) as here:
        here.label({1: 0.0, 2: 0.0}, 5)
        here.look(299)
        here.gateway.steering.pause(ANN)
        here.gateway.keeper.save()
        here.look(5_000)
        assert here.roles() == (1, 2, "shadow")
        here.restart()  # the pause is in the database, not in a process
        here.look(5_000)
        assert here.roles() == (1, 2, "shadow")
        assert here.rows == 5
        with pytest.raises(Refused, match="paused already, by ann: I want to look at it first"):
            here.gateway.steering.pause(ANN)
        here.gateway.steering.resume(Wanted("digits", "bob", "seen"))
        here.look(290)
        assert here.roles() == (1, 2, "shadow")
        here.look(11)
        assert here.roles() == (1, None, "steady")
        assert here.station.routing().reason.startswith("No verdict after 601 s")
        assert here.lines() == [
            ("ann", "I want to look at it first", "paused"),
            ("bob", "seen", "running"),
        ]


def test_a_paused_trial_goes_no_further_but_ends_when_it_does_harm(
    stage: Callable[..., Any],
) -> None:
    with stage() as here:
        here.gateway.steering.pause(ANN)
        here.earn()
        here.look()
        assert here.roles() == (1, 2, "shadow")
        here.gateway.steering.resume(ANN)
        here.look()
        assert here.roles() == (1, 2, "canary")
        here.gateway.steering.pause(ANN)
        for _ in range(3):
            here.gateway.watches["digits"].shadow_failed(2)
        here.look()
        assert here.roles() == (1, None, "steady")
        assert here.station.routing().actor == "rollout"


def test_skipped_steps_are_in_the_ledger_with_who_and_why(stage: Callable[..., Any]) -> None:
    with stage() as here:
        skip = Wanted("digits", "ann", "known from last year")
        with pytest.raises(GateRefused, match="No gate has judged it"):
            here.gateway.steering.skip(skip)
        now = here.clock.now
        with transaction(here.gateway.parts.maker) as session:
            grant_override(session, "digits", 2, "ann", "I know it", now.replace(year=2030), now)
        here.gateway.steering.skip(skip)
        assert here.roles() == (1, 2, "canary")
        with pytest.raises(StaleGeneration):
            here.gateway.steering.skip(Wanted("digits", "bob", "late", expected=2))
        here.gateway.steering.skip(skip)
        assert here.roles() == (2, None, "steady")
        with transaction(here.gateway.parts.maker) as session:
            moves = [
                (one.actor, one.reason, one.evidence.get("skipped"))
                for one in routing_history(session, "digits")[2:]
            ]
        assert moves == [
            ("ann", "known from last year", "shadow"),
            ("ann", "known from last year", "canary"),
        ]


def test_a_person_ends_a_trial(stage: Callable[..., Any]) -> None:
    with stage() as here:
        here.gateway.steering.abort(Wanted("digits", "ann", "wrong data"))
        routing = here.station.routing()
        assert (routing.champion, routing.challenger, routing.actor) == (1, None, "ann")
        for act in (
            here.gateway.steering.abort,
            here.gateway.steering.pause,
            here.gateway.steering.skip,
        ):
            with pytest.raises(Refused, match="No version of 'digits' is on trial"):
                act(ANN)


def test_without_a_verdict_a_trial_is_held_where_the_policy_says_so(
    stage: Callable[..., Any],
) -> None:
    with stage(RolloutPolicy(deadline_seconds=600, inconclusive="hold")) as here:
        here.label({1: 0.0, 2: 0.0}, 5)
        for _ in range(3):
            here.look(601)
        assert here.roles() == (1, 2, "shadow")
        (told,) = here.alerts()
        assert "The trial of version 2 is held: No verdict after 602 s" in told
        assert "homeostat rollout resume, skip or abort digits --reason 'why'" in told
        here.earn()
        here.look()
        assert here.roles() == (1, 2, "shadow")  # a person has to say so
        here.gateway.steering.resume(ANN)
        here.look()
        assert here.roles() == (1, 2, "canary")
        here.look(590)  # it has its whole time again
        assert here.roles() == (1, 2, "canary")
        here.look(20)
        assert len(here.lines()) == 3


def test_without_a_verdict_a_trial_ends_and_what_served_serves_on(
    stage: Callable[..., Any],
) -> None:
    with stage(RolloutPolicy(deadline_seconds=600)) as here:
        here.label({1: 0.0, 2: 0.0}, 5)
        here.look(590)
        assert here.roles() == (1, 2, "shadow")
        here.look(20)
        assert here.roles() == (1, None, "steady")
        (told,) = here.alerts()
        assert "The trial of version 2 ended: No verdict after 611 s" in told
        assert "homeostat promote digits --version 2" in told


def test_what_a_person_does_to_a_trial_is_in_the_story_of_what_is_open(
    stage: Callable[..., Any],
) -> None:
    with stage() as here:
        here.label({1: 1.0, 2: 1.0}, 60)
        here.look()
        steer(here.gateway.parts, here.gateway.steering, "pause", ANN)
        with transaction(here.gateway.parts.maker) as session:
            (incident,) = incident_history(session, "digits")
        assert incident.events[-1].text == "ann paused the trial: I want to look at it first"


def test_a_new_candidate_begins_the_analysis_anew(stage: Callable[..., Any]) -> None:
    with stage(RolloutPolicy(deadline_seconds=600)) as here:
        here.label({1: 0.0, 2: 0.0}, 50)
        here.look(500)
        here.gateway.steering.pause(ANN)
        start = Wanted("digits", "ann", "a better one", version=3)
        with pytest.raises(GateRefused, match="No gate has judged it"):
            here.gateway.steering.start(start)
        now = here.clock.now
        with transaction(here.gateway.parts.maker) as session:
            grant_override(session, "digits", 3, "ann", "I know it", now.replace(year=2030), now)
        here.gateway.steering.start(start)
        here.look(500)
        assert here.roles() == (1, 3, "shadow")  # its own time, and not the other's pause
        assert here.rows == 0
        here.label({1: 0.0, 3: 0.0}, 5)
        here.look(101)
        assert here.roles() == (1, None, "steady")
        with pytest.raises(Refused, match="Version 1 of 'digits' is champion already"):
            here.gateway.steering.start(Wanted("digits", "ann", "again", version=1))


def test_the_routes_steer_a_trial_and_show_how_it_stands(
    station: Callable[..., Station], hand_clock: HandClock
) -> None:
    here = station()
    with here.answering(hand_clock) as (gateway, client):
        here.put_on_trial(2, hand_clock())
        gateway.parts.follow("digits")
        path = "/v1/models/digits/rollout"
        body = {"reason": "lunch", "actor": "ann", "expected_generation": 2}
        paused = client.post(f"{path}/pause", json=body)
        assert paused.status_code == 200, paused.text
        assert paused.json()["trial"]["state"] == "paused"
        (shown,) = client.get("/v1/models").json()["models"]
        assert (shown["trial"]["paused_by"], shown["trial"]["paused_why"]) == ("ann", "lunch")
        assert client.get("/v1/models/digits").json()["trial"]["seconds_left"] == 86_400.0
        late = client.post(f"{path}/abort", json=body | {"expected_generation": 1})
        assert (late.status_code, late.json()["code"]) == (409, "stale-generation")
        assert client.post(f"{path}/dance", json=body).status_code == 400
        ended = client.post(f"{path}/abort", json={"reason": "no more"})
        assert (ended.status_code, ended.json()["trial"]) == (200, None)
        again = client.post(f"{path}/resume", json={"reason": "no more"})
        assert again.status_code == 409
        with transaction(gateway.parts.maker) as session:
            assert incident_history(session, "digits") == []
