"""How often the paired gates err, over 2,000 seeded candidates; `pytest -s` prints the rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from homeostat.policy import GatePolicy
from registry import Contender, Evidence, GateFigure
from registry.gate_slices import slices
from registry.gates import not_worse

SEEDS = 2_000
RATE = 0.05
POLICY = GatePolicy(forgetting=0.03, error_rate=RATE)
CLASSES = [name for name in "abcdefgh" for _ in range(60)]


def pair(
    rng: np.random.Generator, rows: int, lost: float, won: float
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """0/1 losses of candidate and champion; a row is lost or won with these chances."""
    drawn = rng.random(rows)
    candidate = (drawn < lost).astype(np.float64)
    champion = (drawn > 1.0 - won).astype(np.float64)
    return candidate, champion


def evidence(candidate: np.ndarray[Any, Any], champion: np.ndarray[Any, Any]) -> Evidence:
    labels = CLASSES if len(CLASSES) == len(candidate) else ()
    ours, theirs = Contender("a" * 64, {0: candidate}), Contender("b" * 64, {0: champion})
    return Evidence(ours, theirs, POLICY, None, labels=labels)


def rate(  # of figures that pass, or that do not
    gate: Callable[[Evidence], GateFigure | None],
    rows: int,
    lost: float,
    won: float,
    *,
    passes: bool,
    seeds: int = SEEDS,
) -> float:
    hits = 0
    for seed in range(seeds):
        figure = gate(evidence(*pair(np.random.default_rng(seed), rows, lost, won)))
        assert figure is not None
        hits += figure.passed is passes
    return hits / seeds


def upper(share: float, seeds: int = SEEDS) -> float:
    """The upper 95 % bound (Wilson's) of a rate over the seeds."""
    z = 1.645
    reach = z * math.sqrt(share * (1 - share) / seeds + z * z / (4 * seeds**2))
    return (share + z * z / (2 * seeds) + reach) / (1 + z * z / seeds)


def test_a_candidate_worse_by_the_margin_or_more_seldom_passes() -> None:
    """At the margin it spends what it may; that it is never more, test_monitoring_exact counts."""
    at = rate(not_worse, 120, 0.07, 0.04, passes=True)
    beyond = rate(not_worse, 120, 0.10, 0.05, passes=True, seeds=500)
    print(f"120 rows, margin 0.03: worse by 0.03 passes {at:.2%}, worse by 0.05 {beyond:.2%}")
    assert at <= RATE
    assert upper(beyond, 500) < RATE


def test_an_equal_and_a_better_candidate_pass() -> None:
    """The power: 540 rows are what `digits` holds out."""
    equal = rate(not_worse, 540, 0.02, 0.02, passes=True, seeds=200)
    better = rate(not_worse, 540, 0.02, 0.03, passes=True, seeds=200)
    print(f"540 rows, 2 % lost and 2 % won: passes {equal:.2%}; 3 % won: {better:.2%}")
    assert equal > 0.9
    assert better > 0.97


def test_a_candidate_that_keeps_every_budget_is_seldom_refused_by_the_slices() -> None:
    """Eight classes of 60 rows, each of them lost by exactly its budget: the hardest case."""
    found = rate(slices, len(CLASSES), 0.12, 0.02, passes=False)
    print(
        f"8 slices, each worse by its budget 0.10: refused {found:.2%}, at most {upper(found):.2%}"
    )
    assert upper(found) < RATE


def test_a_candidate_that_loses_a_slice_is_refused() -> None:
    refused = 0
    for seed in range(SEEDS):
        candidate, champion = pair(np.random.default_rng(seed), len(CLASSES), 0.02, 0.02)
        candidate[:60] = np.random.default_rng(SEEDS + seed).random(60) < 0.35
        champion[:60] = 0.0
        figure = slices(evidence(candidate, champion))
        assert figure is not None
        refused += not figure.passed
    print(f"one of 8 slices (60 rows) worse by 0.35: refused {refused / SEEDS:.2%}")
    assert refused / SEEDS > 0.9
