"""What the controller does by itself in each mode of the policy, and what its alerts say of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import pytest
from sqlalchemy import select

from homeostat.policy import Policy, RolloutPolicy
from registry import (
    Incident,
    Verdict,
    connect,
    incident_history,
    quarantine,
    record_verdict,
    retrain_history,
    routing_history,
    sessions,
    transaction,
)
from registry.losses import LabelledLoss
from registry.tables import OutboxRow
from serving.gateway import Gateway
from serving.steering import Wanted

if TYPE_CHECKING:
    from tests.integration.conftest import HandClock, Station

PAGER = ("http://127.0.0.1:9/alerts",)


class Stage:
    """A gateway whose loop the test turns, with its clock, its incidents and its alerts."""

    def __init__(self, station: Station, clock: HandClock) -> None:
        self.station = station
        self.clock = clock
        self.gateway = Gateway(station.settings, clock)
        self.gateway.prover.now = lambda: clock().timestamp()

    def look(self) -> None:
        self.clock.advance(1)
        self.gateway.controller.look()
        self.gateway.prover.look("digits")

    def label(self, losses: dict[int, float], count: int) -> None:
        """Labels as the feedback hands them on: what each version loses on every row."""
        rows = [LabelledLoss(self.clock(), losses) for _ in range(count)]
        self.gateway.watches["digits"].label(rows)

    def incidents(self) -> list[Incident]:
        with transaction(self.gateway.parts.maker) as session:
            return incident_history(session, "digits")

    def alerts(self) -> list[dict[str, Any]]:
        with transaction(self.gateway.parts.maker) as session:
            return list(session.scalars(select(OutboxRow.alert).order_by(OutboxRow.id)))

    def reasons(self) -> str:
        with transaction(self.gateway.parts.maker) as session:
            return " ".join(one.reason for one in routing_history(session, "digits"))

    def actors(self) -> list[str]:
        with transaction(self.gateway.parts.maker) as session:
            assert retrain_history(session, "digits") == []
            return [one.actor for one in routing_history(session, "digits")]


@pytest.fixture
def stage(station: Callable[..., Station], hand_clock: HandClock) -> Callable[..., Any]:
    """Opens a stage with version 2 as champion and version 1 as its standby."""

    @contextmanager
    def make(policy: Policy) -> Iterator[Stage]:
        here = station(policy)
        here.serve(1, hand_clock.now)
        here.serve(2, hand_clock.now)
        found = Stage(here, hand_clock)
        try:
            found.look()
            yield found
        finally:
            found.gateway.stop()

    return make


def test_a_rollback_is_one_alert_that_says_all(stage: Callable[..., Any]) -> None:
    with stage(Policy(alerts=PAGER)) as here:
        here.label({1: 0.0, 2: 1.0}, 60)
        here.look()
        here.look()
        assert here.station.routing().champion == 1
        (incident,) = here.incidents()
        assert incident.title == "digits:2: it is worse than its standby"
        (alert,) = here.alerts()
        assert (alert["status"], alert["severity"]) == ("open", "page")
        assert alert["details"]["state"] == "mitigated"
        happened, done, next_step, undo = (
            "Version 2 is worse than version 1 on the rows that both answered",
            "Traffic went back to version 1, and version 2 is in quarantine.",
            "Next: the alias champion in MLflow follows by itself",
            "To undo: homeostat promote digits --version 2 --override --reason ",
        )
        places = [alert["text"].index(part) for part in (happened, done, next_step, undo)]
        assert places == sorted(places)


def test_an_open_incident_takes_the_name_of_what_is_graver(stage: Callable[..., Any]) -> None:
    with stage(Policy(alerts=PAGER, mode="observe")) as here:
        for losses, title in (
            ({2: 1.0}, "digits:2: accuracy fell"),
            ({1: 0.0, 2: 1.0}, "digits:2: it is worse than its standby"),
        ):
            here.label(losses, 60)
            here.look()
            (incident,) = here.incidents()
            assert incident.title == title
        assert [one["title"] for one in here.alerts()] == [
            "digits:2: accuracy fell",
            "digits:2: it is worse than its standby",
        ]
        assert [one["status"] for one in here.alerts()] == ["open", "update"]


@pytest.mark.parametrize("mode", ["observe", "recommend"])
def test_where_the_policy_does_not_act_nothing_moves(
    stage: Callable[..., Any], mode: Literal["observe", "recommend"]
) -> None:
    rollout = RolloutPolicy(deadline_seconds=60)
    with stage(Policy(alerts=PAGER, mode=mode, rollout=rollout)) as here:
        here.station.put_on_trial(3, here.clock.now)
        here.look()
        here.label({1: 0.0, 2: 1.0}, 400)  # a retrain and a rollback are due
        here.look()
        assert here.gateway.watches["digits"].rollback_signal() is not None
        here.label({2: 0.0, 3: 1.0}, 60)  # and so is the end of the trial
        here.look()
        assert here.gateway.watches["digits"].trial.decision == "worse"
        here.clock.advance(120)  # by the clock too
        here.look()
        here.look()
        assert here.actors() == ["test", "test", "test"]
        assert (here.station.routing().champion, here.station.routing().challenger) == (2, 3)
        texts = " ".join(one["text"] for one in here.alerts())
        assert "To undo" not in texts
        (incident,) = [one for one in here.incidents() if one.version == 2]
        if mode == "observe":
            assert "homeostat" not in texts
            assert "nothing by itself: the policy's mode is 'observe'." in texts
            return
        assert "homeostat rollback digits --reason 'why'" in texts
        assert (
            "PREFECT_API_URL=http://127.0.0.1:9/api prefect deployment run retrain/retrain "
            f"-p model=digits -p incident_id={incident.id}" in texts
        )
        assert "take the alias challenger of digits away in MLflow" in texts


def test_a_challenger_that_earned_it_is_recommended_with_the_command(
    stage: Callable[..., Any],
) -> None:
    with stage(Policy(alerts=PAGER, mode="recommend")) as here:
        here.station.put_on_trial(3, here.clock.now)
        here.look()
        here.label({2: 1.0, 3: 0.0}, 3)
        for _ in range(3):
            here.label({2: 0.0, 3: 0.0}, 400)
            here.look()
        assert here.gateway.watches["digits"].trial.decision == "not-worse"
        assert here.station.routing().phase == "shadow"
        (alert,) = [one for one in here.alerts() if "earned" in one["text"]]
        assert "homeostat promote digits --version 3 --reason 'why'" in alert["text"]


def test_the_share_of_a_canary_follows_who_is_better_where_the_policy_says_so(
    stage: Callable[..., Any],
) -> None:
    rollout = RolloutPolicy(allocation="thompson", margin=0.0, canary_share=0.1)
    with stage(Policy(rollout=rollout)) as here:
        here.station.put_on_trial(3, here.clock.now)
        here.look()
        verdict = Verdict(True, (), here.station.digests[3])
        with transaction(here.gateway.parts.maker) as session:
            record_verdict(session, "digits", 3, verdict, here.clock())
        here.gateway.steering.skip(Wanted("digits", "ann", "known"))
        shares = []
        for wins in (12, 12, 12, 0):
            here.label({2: 1.0, 3: 0.0}, wins)
            here.label({2: 0.0, 3: 1.0}, 0 if wins else 60)
            here.clock.advance(61)
            here.look()
            here.look()  # no sooner than a minute later it moves again
            shares.append(here.station.routing().canary_share)
            if here.station.routing().phase != "canary":
                break
        assert shares[:2] == [0.2, 0.4]
        assert "the better one with a probability of" in here.reasons()


def test_a_trial_without_a_verdict_is_ended_at_its_deadline_and_on_call_hears_of_it(
    stage: Callable[..., Any],
) -> None:
    rollout = RolloutPolicy(deadline_seconds=600)
    with stage(Policy(alerts=PAGER, rollout=rollout)) as here:
        here.station.put_on_trial(3, here.clock.now)
        here.look()
        here.label({2: 0.0, 3: 0.0}, 5)
        here.clock.advance(590)
        here.look()
        assert here.station.routing().challenger == 3
        here.clock.advance(10)
        here.look()
        here.look()
        routing = here.station.routing()
        assert (routing.champion, routing.challenger, routing.actor) == (2, None, "rollout")
        assert routing.reason.startswith("No verdict after 603 s (loss difference ")
        (alert,) = here.alerts()
        assert (alert["status"], alert["severity"]) == ("open", "ticket")
        assert "The trial of version 3 ended: No verdict after 603 s" in alert["text"]
        assert "Version 2 answers all traffic." in alert["text"]
        assert alert["details"]["state"] == "mitigated"


def test_the_end_of_a_trial_is_news_of_the_incident_that_asked_for_it(
    stage: Callable[..., Any],
) -> None:
    with stage(Policy(alerts=PAGER)) as here:
        here.label({2: 1.0}, 60)
        here.look()
        here.station.put_on_trial(3, here.clock.now)
        here.look()
        here.label({2: 0.0, 3: 1.0}, 60)
        here.look()
        assert here.station.routing().challenger is None
        (incident,) = here.incidents()
        assert (incident.kind, incident.state) == ("loss", "open")
        first, second = here.alerts()
        assert "a retrain starts by itself once 300 labels have come" in first["text"]
        assert second["status"] == "update"
        assert "The trial of version 3 ended: The challenger is worse" in second["text"]


def test_a_new_champion_resolves_and_says_how_to_go_back(stage: Callable[..., Any]) -> None:
    with stage(Policy(alerts=PAGER)) as here:
        here.label({2: 1.0}, 60)
        here.look()
        here.gateway.moves.request("digits", 3, "ann", "it is mended", override=True)
        assert [one.state for one in here.incidents()] == ["open"]  # nothing shows it yet
        here.look()
        here.look()
        assert [one.state for one in here.incidents()] == ["resolved"]
        last = here.alerts()[-1]
        assert last["status"] == "resolved"
        assert last["text"].endswith(
            "Version 3 was promoted by ann: it is mended. Next: nothing; it is over. "
            "To undo: homeostat rollback digits --reason 'why'"
        )


def test_a_person_who_rolls_back_mitigates_what_was_open(stage: Callable[..., Any]) -> None:
    with stage(Policy(alerts=PAGER)) as here:
        here.label({2: 1.0}, 60)
        here.look()
        here.gateway.moves.roll_back("digits", "ann", "it hurts")
        here.look()
        here.look()
        (incident,) = here.incidents()
        assert (incident.state, incident.version) == ("mitigated", 2)
        text = here.alerts()[-1]["text"]
        assert "Traffic went back to version 1: ann asked for it (it hurts)." in text
        assert "To undo: homeostat promote digits --version 2 --reason 'why'" in text


def test_a_rollback_with_nowhere_to_go_calls_somebody(stage: Callable[..., Any]) -> None:
    with stage(Policy(alerts=PAGER)) as here:
        engine = connect(here.station.settings.database)
        with transaction(sessions(engine)) as session:
            digest = here.station.digests[1]
            quarantine(session, "digits", digest, "it leaks", here.clock.now, actor="test")
        engine.dispose()
        here.label({1: 0.0, 2: 1.0}, 60)
        for _ in range(3):
            here.look()
        assert here.station.routing().champion == 2
        alerts = [one for one in here.alerts() if "standby" in one["title"]]
        assert len(alerts) == 1
        assert "somebody has to promote a good version" in alerts[0]["text"]
        assert "in quarantine: it leaks" in alerts[0]["text"]
