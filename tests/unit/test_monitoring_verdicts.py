"""Each signal ends in one verdict with its reason; "do not retrain" is one."""

from __future__ import annotations

import numpy as np
import pytest

from monitoring import Signal
from monitoring.estimates import Estimate
from monitoring.signals import Kind
from monitoring.verdicts import Measured, labels_needed, rule


def signal(kind: Kind, **details: object) -> Signal:
    return Signal(kind, "d", 12.0, 11.5, 100, 40, details)


def drift(broken: float = 0.0) -> Signal:
    moved = {"name": "age", "evidence": 5.0, "total_variation": 0.4, "broken": broken}
    return signal("input-drift", features=[moved])


@pytest.mark.parametrize(
    ("signals", "verdict", "answer"),
    [
        ([signal("loss")], "real-loss", "retrain"),
        ([drift(), signal("loss")], "real-loss", "retrain"),
        ([signal("loss"), signal("worse-than-standby")], "real-loss", "roll back"),
        ([drift(0.3), signal("hard-failure")], "real-loss", "roll back"),
        ([drift(0.3)], "data-break", "do not retrain"),
        ([drift(0.3), signal("loss")], "data-break", "do not retrain"),
        ([drift()], "immature", "wait"),
        ([signal("silence", reason="No label.")], "operational", "do not retrain"),
        ([signal("registry", reason="An alias.")], "operational", "do not retrain"),
    ],
)
def test_what_stands_has_one_verdict(signals: list[Signal], verdict: str, answer: str) -> None:
    ruling = rule(signals)
    assert (ruling.verdict, ruling.answer) == (verdict, answer)
    assert ruling.reason


def test_a_fall_of_accuracy_under_a_broken_feed_says_why_it_is_not_learnt() -> None:
    reason = rule([drift(0.3), signal("loss")]).reason
    assert "age (+30%)" in reason
    assert "would learn the fault" in reason


def test_inputs_that_moved_are_harmless_once_labels_show_that_accuracy_holds() -> None:
    few = rule([drift()], Measured(100, 0.1, 0.13))
    assert (few.verdict, few.answer) == ("immature", "wait")
    assert "Wait for about 2048 labels" in few.reason
    many = rule([drift()], Measured(2048, 0.1, 0.13))
    assert (many.verdict, many.answer) == ("harmless-drift", "do not retrain")
    assert "2048 labels since the change" in many.reason


def test_a_loss_above_what_is_allowed_is_never_harmless() -> None:
    assert rule([drift()], Measured(10**7, 0.131, 0.13)).verdict == "immature"
    assert labels_needed(0.131, 0.13) is None


def test_accuracy_that_fell_is_seldom_taken_as_one_that_holds() -> None:
    """True loss 0.15, allowed 0.13: at most 1 of 100 looks may err (200 seeds, 2,048 labels)."""
    wrong = 0
    for seed in range(200):
        mean = float((np.random.default_rng(seed).random(2048) < 0.15).mean())
        wrong += rule([drift()], Measured(2048, mean, 0.13)).verdict == "harmless-drift"
    assert wrong <= 2


def test_an_estimate_tells_beside_the_labels_and_makes_no_verdict() -> None:
    """Labels and estimate both have to hold; without labels there is nothing but a guess."""
    holds, fell = Estimate(900, 0.1, 0.08, 0.12), Estimate(900, 0.25, 0.2, 0.3)
    early = rule([drift()], Measured(0, 0.0, 0.13), holds)
    assert (early.verdict, early.answer) == ("immature", "wait")
    assert "Estimated without labels: mean loss 0.100 (0.080 to 0.120)" in early.reason
    assert rule([drift()], Measured(4096, 0.1, 0.13), holds).verdict == "harmless-drift"
    odd = rule([drift()], Measured(4096, 0.1, 0.13), fell)
    assert (odd.verdict, odd.answer) == ("immature", "wait")
    assert "the labels contradict" in odd.reason
    none = rule([drift()], None, Estimate(900, None, trouble="10 rows are too few."))
    assert "cannot be estimated: 10 rows are too few." in none.reason
    assert rule([drift(), signal("loss")], None, holds).verdict == "real-loss"
