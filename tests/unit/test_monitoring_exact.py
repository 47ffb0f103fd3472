"""The exact paired tests err no more often than they say: by enumeration, not by luck."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from monitoring.exact import p_at_least, score

RATE = 0.05


def differences(n: int, lost: int, won: int) -> NDArray[np.float64]:
    return np.repeat([1.0, -1.0, 0.0], [lost, won, n - lost - won])


@cache
def p_of(n: int, lost: int, won: int, delta: float) -> float:
    return p_at_least(differences(n, lost, won), delta)


def size(n: int, delta: float, winning: float) -> float:
    """How often the test refuses "worse by delta" where exactly that is true."""
    losing = winning + delta
    total = 0.0
    for lost in range(n + 1):
        for won in range(n + 1 - lost):
            if p_of(n, lost, won, delta) > RATE:
                continue
            same = n - lost - won
            ways = math.comb(n, lost) * math.comb(n - lost, won)
            total += ways * losing**lost * winning**won * (1 - losing - winning) ** same
    return total


@pytest.mark.parametrize("delta", [0.0, 0.1])
def test_the_exact_test_never_errs_more_often_than_stated(delta: float) -> None:
    """All outcomes of 24 rows, at chances of a row won between the points of its own grid."""
    sizes = [size(24, delta, winning) for winning in (0.003, 0.017, 0.05, 0.11, 0.23, 0.37)]
    assert max(sizes) <= RATE
    assert max(sizes) > 0.015  # of use: it spends what it may


def test_at_no_margin_the_score_is_mcnemars() -> None:
    found = float(score(100, np.array([14]), np.array([5]), 0.0)[0])
    assert found**2 == pytest.approx((14 - 5) ** 2 / (14 + 5))


def test_without_a_disagreement_the_p_value_is_the_chance_of_seeing_none() -> None:
    """Were the candidate worse by 0.03, 100 rows would hide it with chance 0.97 ** 100."""
    assert p_of(100, 0, 0, 0.03) == pytest.approx(0.97**100, abs=2e-4)


def test_many_rows_are_compared_in_a_moment_and_as_by_the_normal_law() -> None:
    exact, normal = p_of(20_000, 700, 190, 0.03), p_of(20_001, 700, 190, 0.03)
    assert exact == pytest.approx(normal, abs=3e-3)


@pytest.mark.parametrize("spread", [0.02, 0.2])
def test_losses_of_a_regression_err_no_more_often_than_stated(spread: float) -> None:
    """2,000 seeds at the margin; the upper 95 % bound of the rate is below the stated one."""
    wrong, n = 0, 120
    for seed in range(2_000):
        rng = np.random.default_rng(seed)
        champion = rng.uniform(0.3, 0.5, n)
        worse = champion + 0.05 + rng.uniform(-spread, spread, n)
        wrong += p_at_least(worse - champion, 0.05) <= RATE
    assert upper(wrong, 2_000) < RATE


def test_skewed_losses_do_not_fool_the_bets() -> None:
    """Rare large losses: what fools a test that trusts the variance of few rows."""
    wrong = 0
    for seed in range(2_000):
        rng = np.random.default_rng(seed)
        worse = np.where(rng.random(60) < 0.05, 0.999, 0.001)  # mean 0.0509
        wrong += p_at_least(worse, 0.05) <= RATE
    assert upper(wrong, 2_000) < RATE


def test_an_equal_regression_is_shown_to_be_so_with_rows_enough() -> None:
    noise = np.random.default_rng(0).normal(0.0, 0.05, 400)
    assert p_at_least(noise, 0.03) <= RATE
    assert p_at_least(noise[:40], 0.03) > RATE


def upper(hits: int, seeds: int) -> float:
    """The upper 95 % bound (Wilson's) of a rate."""
    z = 1.645
    share = hits / seeds
    middle = share + z * z / (2 * seeds)
    reach = z * math.sqrt(share * (1 - share) / seeds + z * z / (4 * seeds**2))
    return (middle + reach) / (1 + z * z / seeds)
