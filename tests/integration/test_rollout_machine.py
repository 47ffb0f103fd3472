"""One version answers, whatever happens: a gateway's random histories against a drawing."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from homeostat.errors import HomeostatError, Refused
from homeostat.policy import Policy, RollbackPolicy, RolloutPolicy
from registry import (
    Routing,
    lines_of,
    quarantined,
    routing_history,
    transaction,
    verify_ledger,
)
from registry.losses import LabelledLoss
from registry.release_history import releases
from registry.trials import trial_of
from registry.verdicts import Verdict, record_verdict
from serving.automation import free, pause, resume
from serving.gateway import Gateway
from serving.steering import ACTIONS, Wanted

if TYPE_CHECKING:
    from tests.integration.conftest import HandClock, Station

PAGE = Path(__file__).parents[2] / "docs" / "rollout.md"
POLICY = Policy(
    rollout=RolloutPolicy(deadline_seconds=500, canary_predictions=1, margin=0.1),
    rollback=RollbackPolicy(budget_labels=200),
)
VERSIONS = st.integers(1, 3)
WHY = "so I say"
STALE = st.sampled_from([None, 0, 1])  # generations that a person's knowledge is old by


def drawn() -> set[tuple[str, str]]:
    """The ways of a version that the page draws."""
    found = re.findall(r"^\s+(\w+|\[\*\]) --> (\w+)", PAGE.read_text(), re.MULTILINE)
    return {(one, other) for one, other in found if one != "[*]"}


class RolloutMachine(RuleBasedStateMachine):
    """Every run begins with version 1 as champion, in a copy of a migrated database."""

    clock: ClassVar[HandClock]
    seen: ClassVar[set[tuple[str, str]]]

    @staticmethod
    def station() -> Station:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.here = self.station()
        self.here.serve(1, self.clock())
        self.gateway = self.open()
        for version in self.here.digests:
            self.gates_judge(version, True)
        self.generation = 1
        self.states = {1: "champion", 2: "candidate", 3: "candidate"}

    def open(self) -> Gateway:
        gateway = Gateway(self.here.settings, self.clock)
        gateway.prover.now = lambda: self.clock().timestamp()
        gateway.controller.look()
        return gateway

    def teardown(self) -> None:
        self.gateway.stop()
        shutil.rmtree(self.here.settings.state_dir)

    @rule(seconds=st.sampled_from([1, 20, 600]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)
        before, paused = self.here.routing(), self.is_paused()
        self.gateway.controller.look()
        after = self.here.routing()
        if paused and after.actor == "rollout" and after.generation > before.generation:
            assert (after.champion, after.challenger) == (before.champion, None)

    @rule(
        loser=st.sampled_from(["nobody", "champion", "challenger", "standby"]),
        count=st.sampled_from([5, 60, 600]),
    )
    def labels_come(self, loser: str, count: int) -> None:
        routing = self.here.routing()
        losses = {v: float(routing.role_of(v) == loser) for v in self.here.digests}
        rows = [LabelledLoss(self.clock(), losses) for _ in range(count)]
        self.gateway.watches["digits"].label(rows)
        self.gateway.controller._hands.guard.check("digits")
        if (
            self.gateway.parts.pause("digits")
            and not self.gateway.watches["digits"]._failures._failing
        ):
            assert self.here.routing() == routing

    @rule(version=VERSIONS, passed=st.booleans())
    def gates_judge(self, version: int, passed: bool) -> None:
        verdict = Verdict(passed, (), self.here.digests[version])
        with transaction(self.gateway.parts.maker) as session:
            record_verdict(session, "digits", version, verdict, self.clock())

    @precondition(lambda self: self.is_on_trial)
    @rule()
    def callers_are_answered_in_canary(self) -> None:
        self.gateway.watches["digits"]._failures.answers += 1

    @precondition(lambda self: self.is_on_trial)
    @rule()
    def the_challenger_fails(self) -> None:
        routing = self.here.routing()
        for _ in range(3):
            self.gateway.watches["digits"].shadow_failed(routing.challenger or 0)

    @rule()
    def the_champion_fails(self) -> None:
        self.gateway.watches["digits"]._failures._failing.extend([self.clock()] * 3)

    @rule()
    def it_is_killed(self) -> None:
        killed = self.gateway
        for part in (killed._spool, killed.prefect, killed.store):
            part.close()
        killed._engine.dispose()
        self.clock.advance(16)  # the lease of the dead one runs out
        self.gateway = self.open()

    @rule(act=st.sampled_from([pause, resume]))
    def automation_is_paused_or_not(self, act: Callable[..., object]) -> None:
        with contextlib.suppress(Refused):  # it acts already
            act(self.gateway.parts, "digits", "ann", WHY)

    @rule(version=VERSIONS)
    def a_person_frees(self, version: int) -> None:
        with contextlib.suppress(Refused):  # it is not barred
            free(self.gateway.parts, "digits", version, "ann", WHY)

    @precondition(lambda self: not self.is_on_trial)
    @rule(version=VERSIONS, stale=STALE)
    def a_person_begins_a_trial(self, version: int, stale: int | None) -> None:
        self.act("start", version, stale)

    @precondition(lambda self: self.is_on_trial)
    @rule(action=st.sampled_from(["pause", "resume", "skip", "skip", "abort"]), stale=STALE)
    def a_person_steers(self, action: str, stale: int | None) -> None:
        self.act(action, 0, stale)

    @rule(
        how=st.sampled_from(["promote", "promote anyway", "roll back", "elsewhere"]),
        version=VERSIONS,
        stale=STALE,
    )
    def traffic_is_moved(self, how: str, version: int, stale: int | None) -> None:
        if how == "elsewhere":
            self.another_gateway_promotes(version)
        else:
            self.act(how, version, stale)

    def act(self, action: str, version: int, stale: int | None) -> None:
        before, refused = self.here.routing(), ""
        expected = None if stale is None else max(0, before.generation - stale)
        moves = self.gateway.moves
        try:
            if action == "roll back":
                moves.roll_back("digits", "ann", WHY, expected)
            elif action.startswith("promote"):
                override = action.endswith("anyway")
                moves.request("digits", version, "ann", WHY, override=override, expected=expected)
            else:
                wanted = Wanted("digits", "ann", WHY, expected, version)
                ACTIONS[action](self.gateway.steering, wanted)
        except HomeostatError as error:
            refused = error.code
        if refused:
            assert refused in {"refused", "no-target", "gate-refused", "stale-generation"}
            assert self.here.routing() == before
        else:
            assert not stale

    def another_gateway_promotes(self, version: int) -> None:
        with transaction(self.gateway.parts.maker) as session:
            if quarantined(session, "digits", self.here.digests[version]) is None:
                session.rollback()
                self.here.serve(version, self.clock())

    @invariant()
    def one_version_answers(self) -> None:
        with transaction(self.gateway.parts.reader) as session:
            report = verify_ledger(session, "digits")
            history = routing_history(session, "digits")
            every = releases(session, "digits")
            barred = {
                version
                for version, digest in self.here.digests.items()
                if quarantined(session, "digits", digest) is not None
            }
            lines = lines_of(session, "digits")
        routing = history[-1]
        assert report.intact, report
        assert [one.line for one in lines] == list(range(1, len(lines) + 1))
        assert [one.generation for one in history] == list(range(1, len(history) + 1))
        standing = {one.role: one.version for one in every if one.to_at is None}
        roles = ("champion", "challenger", "standby")
        named = {role: getattr(routing, role) for role in roles}
        assert standing == {role: version for role, version in named.items() if version}
        assert routing.champion not in barred
        self.gateway.parts.follow("digits")
        split = self.gateway.fleet.serving("digits")
        assert (split.generation, split.champion.version) == (routing.generation, routing.champion)
        self.follow_ways(history, barred)

    def follow_ways(self, history: list[Routing], barred: set[int]) -> None:
        """Note each version's way from routing to routing."""
        for routing in history[self.generation :]:
            for version, before in self.states.items():
                role = routing.role_of(version)
                state: str = role or ("quarantined" if version in barred else "candidate")
                if role == "challenger":
                    state = routing.phase
                if state != before:
                    self.seen.add((before, state))
                    assert (before, state) in drawn(), f"{routing}"
                self.states[version] = state
        self.generation = len(history)

    @property
    def is_on_trial(self) -> bool:
        return bool({"shadow", "canary"} & set(self.states.values()))

    def is_paused(self) -> bool:
        with transaction(self.gateway.parts.reader) as session:
            trial = trial_of(session, self.here.routing(), self.clock())
        return trial is not None and trial.paused_at is not None


@pytest.fixture
def machine(station: Callable[..., Station], hand_clock: HandClock) -> type[RolloutMachine]:
    """A machine of this test's own station."""

    class Machine(RolloutMachine):
        clock = hand_clock
        seen: ClassVar[set[tuple[str, str]]] = set()

        @staticmethod
        def station() -> Station:
            return station(POLICY)

    return Machine


def test_one_version_answers_and_goes_only_the_ways_that_are_drawn(
    machine: type[RolloutMachine],
) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=10,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )


def test_every_way_that_is_drawn_can_be_gone(machine: type[RolloutMachine]) -> None:
    run = machine()
    steps: tuple[Callable[[], None], ...] = (
        lambda: run.act("start", 2, 0),
        lambda: run.act("skip", 0, 0),
        lambda: run.act("skip", 0, 0),
        lambda: run.labels_come("champion", 600),  # its standby would do better: it is barred
        lambda: run.act("promote anyway", 2, 0),
        lambda: run.act("start", 1, 0),  # the standby
        lambda: run.act("promote", 1, 0),
        lambda: run.act("roll back", 0, 0),
        lambda: run.act("promote", 3, 0),
        lambda: run.act("promote", 1, 0),  # 2 is standby no more
        lambda: run.act("start", 2, 0),
        lambda: run.act("abort", 0, 0),
        lambda: run.act("start", 2, 0),
        lambda: run.act("skip", 0, 0),
        lambda: run.act("abort", 0, 0),
        lambda: run.act("promote", 2, 0),
        lambda: run.labels_come("champion", 600),  # and barred again
        lambda: run.a_person_frees(2),
        lambda: run.act("start", 3, 0),
    )
    for step in steps:
        step()
        run.one_version_answers()
    run.teardown()
    assert machine.seen == drawn()
