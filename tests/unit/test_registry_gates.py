"""Gates judge by figures; the answer to an alias move is pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from homeostat.errors import DataError
from homeostat.policy import GatePolicy, Policy
from registry import (
    Contender,
    Evidence,
    GateFigure,
    Measured,
    Override,
    Quarantined,
    Routing,
    Verdict,
    decide_alias_move,
    judge,
    wanted_aliases,
)
from registry.gate_evidence import Losses
from registry.verdicts import verdict_tags

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
POLICY = GatePolicy(min_accuracy=0.8, forgetting=0.03, error_rate=0.05)
DIGEST = "a" * 64
PASSED = Verdict(True, (), DIGEST)
OVERRIDE = Override("digits", 2, "ann", "we need it", NOON, NOON)
BARRED = Quarantined("digits", DIGEST, "it lost accuracy", NOON)


def losses(wrong: int, rows: int = 500) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """0/1 losses with the first `wrong` rows wrong."""
    return (np.arange(rows) < wrong).astype(np.float64)


def told(
    candidate: Mapping[int, Losses],
    champion: Mapping[int, Losses] | None,
    policy: GatePolicy = POLICY,
) -> Verdict:
    """What the gates say of these losses alone."""
    other = None if champion is None else Contender("c" * 64, champion)
    return judge(Evidence(Contender(DIGEST, candidate), other, policy, None), NOON)


def failed(verdict: Verdict) -> list[str]:
    return [figure.name for figure in verdict.figures if not figure.passed]


def test_the_first_version_has_only_the_floor_to_pass() -> None:
    verdict = told({0: losses(50)}, None)
    assert verdict.passed
    assert [figure.name for figure in verdict.figures] == ["accuracy"]
    assert verdict.figures[0].figure == pytest.approx(0.9)
    assert not told({0: losses(101)}, None).passed
    assert told({0: losses(100)}, None).passed


def test_a_better_candidate_that_forgot_nothing_passes() -> None:
    candidate = {0: losses(10), 1: losses(12), 2: losses(25)}
    champion = {0: losses(10), 1: losses(10), 2: losses(150)}
    verdict = told(candidate, champion)
    assert verdict.passed
    assert [item.name for item in verdict.figures] == [
        "accuracy",
        "newest-regime",
        "regime-0",
        "regime-1",
    ]
    assert verdict.figures[1].figure == pytest.approx(-0.25)
    assert "interval" in verdict.figures[3].reason


def test_a_verdict_says_by_what_it_was_reached_and_its_hash_is_of_all_of_it() -> None:
    verdict = told({0: losses(10)}, {0: losses(10)})
    said = verdict.to_json()
    assert Verdict.from_json(said) == verdict
    assert (said["error_rate"], said["at"]) == (0.05, NOON.isoformat())
    assert said["policy"]["forgetting"] == 0.03
    assert verdict.hash == Verdict.from_json(said).hash
    others: list[dict[str, Any]] = [
        {"passed": False},
        {"digest": "b" * 64},
        {"policy": {}},
        {"figures": []},
    ]
    for other in others:
        assert Verdict.from_json(said | other).hash != verdict.hash


def test_a_candidate_that_forgot_an_earlier_regime_is_refused_by_name() -> None:
    candidate = {0: losses(10), 1: losses(26), 2: losses(25)}
    champion = {0: losses(10), 1: losses(10), 2: losses(150)}
    verdict = told(candidate, champion)
    assert failed(verdict) == ["regime-1"]
    assert "regime-1" in verdict.reason
    assert "+0.032" in verdict.reason


def test_earlier_regimes_are_held_to_a_bound_of_their_own_where_policy_gives_one() -> None:
    candidate = {0: losses(400), 1: losses(25)}
    champion = {0: losses(10), 1: losses(150)}
    assert failed(told(candidate, champion)) == ["regime-0"]

    turned = POLICY.model_copy(update={"former_forgetting": 1.0})
    verdict = told(candidate, champion, turned)
    assert verdict.passed
    assert "+0.780 of regime 0; as much as it likes" in verdict.figures[2].reason

    tighter = POLICY.model_copy(update={"former_forgetting": 0.005})
    worse = {0: losses(13), 1: losses(25)}
    assert told(worse, champion).passed
    assert failed(told(worse, champion, tighter)) == ["regime-0"]
    assert failed(told({1: losses(60)}, {1: losses(40)}, turned)) == ["newest-regime"]


def test_a_regime_of_few_rows_is_not_kept_until_that_is_shown() -> None:
    """It lost 0.02 of 50 rows, less than the budget: too few rows to say so of the regime."""
    candidate = {0: losses(2, 50), 1: losses(10)}
    champion = {0: losses(1, 50), 1: losses(150)}
    verdict = told(candidate, champion)
    assert failed(verdict) == ["regime-0"]
    assert "not shown" in verdict.reason


def test_a_candidate_worse_on_the_newest_regime_is_refused() -> None:
    assert failed(told({1: losses(90)}, {1: losses(50)})) == ["newest-regime"]


def test_an_equal_candidate_is_not_worse() -> None:
    assert told({0: losses(20)}, {0: losses(20)}).passed


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(DataError, match="held-out"):
        told({}, None)
    with pytest.raises(DataError, match="held-out"):
        told({0: losses(0, 0)}, None)
    with pytest.raises(DataError, match="same rows"):
        told({0: losses(5)}, {0: losses(5, 499)})
    with pytest.raises(DataError, match="same rows"):
        told({0: losses(5), 1: losses(5)}, {1: losses(5)})
    for bad in (np.nan, -0.1, 1.1):
        with pytest.raises(DataError, match=r"\[0, 1\]"):
            told({0: np.array([0.0, bad])}, None)


@pytest.mark.parametrize(
    ("mode", "verdict", "override", "barred", "action", "warn"),
    [
        ("enforce", PASSED, None, None, "accept", False),
        ("enforce", None, None, None, "restore", False),
        ("enforce", Verdict(False, (), DIGEST), None, None, "restore", False),
        ("enforce", Verdict(True, (), "b" * 64), None, None, "restore", False),
        ("enforce", None, OVERRIDE, None, "accept", True),
        ("warn", None, None, None, "accept", True),
        ("override", None, None, None, "accept", False),
        ("override", PASSED, OVERRIDE, BARRED, "restore", False),
    ],
)
def test_an_alias_move_is_answered_by_verdict_override_quarantine_and_policy(
    mode: str,
    verdict: Verdict | None,
    override: Override | None,
    barred: Quarantined | None,
    action: str,
    warn: bool,
) -> None:
    policy = Policy.model_validate({"alias_moves": mode})
    decision = decide_alias_move(policy, verdict, override, barred, DIGEST)
    assert (decision.action, decision.warn) == (action, warn)
    assert decision.reason


APPROVING = Policy.model_validate({"gates": {"approvals": 3}})


@pytest.mark.parametrize(
    ("people", "accepts", "says"),
    [
        ([], False, "0 of 3 approvals: waits for 3 more people."),
        (["ann"], False, "1 of 3 approvals: waits for 2 more people (approved by ann)."),
        (["ann", "bob", "ann"], False, "2 of 3 approvals: waits for 1 more person"),
        (["ann", "bob", "cy"], True, "Every gate passed."),
    ],
)
def test_a_version_waits_for_as_many_people_as_the_policy_asks(
    people: list[str], accepts: bool, says: str
) -> None:
    decision = decide_alias_move(APPROVING, PASSED, None, None, DIGEST, people)
    assert (decision.action == "accept") is accepts
    assert says in decision.reason


def test_approvals_lift_no_refusal_and_an_override_needs_none() -> None:
    people = ["ann", "bob", "cy"]
    refused = Verdict(False, (), DIGEST)
    assert decide_alias_move(APPROVING, refused, None, None, DIGEST, people).action == "restore"
    passed = decide_alias_move(APPROVING, PASSED, OVERRIDE, None, DIGEST, [])
    assert (passed.action, passed.warn) == ("accept", True)


def test_the_reason_of_an_override_names_who_allowed_it() -> None:
    decision = decide_alias_move(Policy(), None, OVERRIDE, None)
    assert "ann" in decision.reason
    assert "we need it" in decision.reason


def test_a_role_without_a_version_wants_no_alias() -> None:
    routing = Routing("digits", 4, 2, None, 1, "steady", 0.0, NOON, "ann", "because", {}, "0" * 64)
    assert wanted_aliases(routing) == {"champion": 2, "challenger": None, "standby": 1}


MEASURED = Measured("", 8, 1.5, 20.0, 9000.0, 12.5, 74_000)


def measured(found: Measured | None, **bounds: float | None) -> dict[str, GateFigure]:
    """The figures of the gates on what the serving code measured."""
    policy = GatePolicy.model_validate(bounds)
    evidence = Evidence(Contender(DIGEST, {0: losses(0)}), None, policy, None, measured=found)
    return {figure.name: figure for figure in judge(evidence, NOON).figures}


def test_latency_and_memory_are_held_to_the_policy() -> None:
    found = measured(MEASURED, max_latency_ms=20.0, max_memory_mb=12.0)
    assert found["golden"].passed
    assert (found["latency"].figure, found["latency"].passed) == (20.0, True)
    assert (found["memory"].figure, found["memory"].passed) == (12.5, False)
    assert "more than 12 MiB" in found["memory"].reason
    assert not measured(MEASURED, max_latency_ms=19.9)["latency"].passed


def test_without_a_bound_or_a_probe_nothing_is_judged() -> None:
    assert {"latency", "memory"}.isdisjoint(
        measured(MEASURED, max_latency_ms=None, max_memory_mb=None)
    )
    assert set(measured(None)) == {"accuracy"}


def test_a_candidate_that_the_serving_code_cannot_load_is_refused_with_the_reason() -> None:
    found = measured(Measured(failure="The serving code hung for 60 s."))
    assert set(found) == {"accuracy", "golden"}
    assert not found["golden"].passed
    assert "hung for 60 s" in found["golden"].reason


def test_a_verdict_as_tags_says_each_figure_and_bound() -> None:
    tags = verdict_tags(told({0: losses(10), 1: losses(26)}, {0: losses(10), 1: losses(90)}))
    assert tags["lifecycle.verdict"] == "passed"
    assert tags["gate.accuracy"] == "passed: 0.948 (bound 0.8)"
    assert tags["gate.regime-0"] == "passed: 0 (bound 0.03)"
    odd = Verdict(False, (GateFigure("a|b = \u00fc", 1.0, 0.5, False, ""),), DIGEST)
    assert verdict_tags(odd)["gate.a_b _ \u00fc"] == "REFUSED: 1 (bound 0.5)"
