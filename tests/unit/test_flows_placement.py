from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import pytest

from flows.placement import decide_place
from homeostat.policy import Policy
from registry import GateFigure, Routing, Verdict

NOW = datetime(2026, 11, 21, tzinfo=UTC)
GATE = GateFigure("accuracy", 0.9, 0.8, True, "Accuracy 0.9.")


def verdict(passed: bool) -> Verdict:
    return Verdict(passed, (GATE,), "d" * 64)


def routing(champion: int) -> Routing:
    return Routing(
        model="m",
        generation=1,
        champion=champion,
        challenger=None,
        standby=None,
        phase="steady",
        canary_share=0.0,
        at=NOW,
        actor="t",
        reason="r",
        evidence={},
        hash="h",
    )


def test_the_first_version_that_passes_answers_all_traffic() -> None:
    assert decide_place(Policy(), 1, verdict(passed=True), None) == "champion"


def test_a_later_version_that_passes_earns_its_traffic() -> None:
    assert decide_place(Policy(), 2, verdict(passed=True), routing(1)) == "challenger"


@pytest.mark.parametrize("mode", ["observe", "recommend"])
def test_where_the_policy_does_not_act_a_later_version_waits(
    mode: Literal["observe", "recommend"],
) -> None:
    policy = Policy(mode=mode)

    assert decide_place(policy, 2, verdict(passed=True), routing(1)) == "candidate"
    assert decide_place(policy, 1, verdict(passed=True), None) == "champion"


@pytest.mark.parametrize("present", [None, routing(1)])
def test_a_version_that_a_gate_refused_goes_nowhere(present: Routing | None) -> None:
    assert decide_place(Policy(), 2, verdict(passed=False), present) == "rejected"


def test_the_champion_stays_champion_when_its_work_is_run_again() -> None:
    assert decide_place(Policy(), 1, verdict(passed=True), routing(1)) == "champion"
