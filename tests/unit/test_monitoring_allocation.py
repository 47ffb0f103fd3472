from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from monitoring.allocation import LEAST, chance_better, next_share
from monitoring.sequential import PairedTest

ROWS, LOOK, SEEDS, START = 2_000, 50, 60, 0.2


def differences(seed: int, gap: float) -> NDArray[np.float64]:
    """loss(challenger) - loss(champion), whose 0/1 errors are independent; 10 % of the champion."""
    draw = np.random.default_rng(seed).random((2, ROWS))
    return np.asarray((draw[0] < 0.1 + gap).astype(float) - (draw[1] < 0.1).astype(float))


def shares(d: NDArray[np.float64]) -> NDArray[np.float64]:
    """The challenger's share at each row, moved at each look."""
    looks = np.arange(0, ROWS, LOOK)
    total = np.concatenate([[0.0], d.cumsum()])[looks]
    squares = np.concatenate([[0.0], (d**2).cumsum()])[looks]
    found, share = [], START
    for n, mean, square in zip(looks, total, squares, strict=True):
        share = next_share(share, chance_better(int(n), mean, square))
        found.append(share)
    return np.repeat(found, LOOK)


@pytest.mark.parametrize("gap", [-0.05, -0.02, 0.02, 0.05, 0.2])
def test_its_regret_is_below_that_of_an_even_split(gap: float) -> None:
    """Expected loss beyond the better version's, in the mean of 60 trials of 2,000 rows."""
    to_worse = [
        (shares(differences(seed, gap)) if gap > 0 else 1 - shares(differences(seed, gap))).sum()
        for seed in range(SEEDS)
    ]
    regret, even = abs(gap) * float(np.mean(to_worse)), abs(gap) * ROWS / 2
    bound = 0.5 if abs(gap) >= 0.05 else 0.8
    assert regret < bound * even


def test_a_moving_share_leaves_the_verdict_its_error_rate() -> None:
    """A challenger worse by the margin passes in one of 20 trials at most: 40 of 600 rows."""
    passed, trials = 0, 40
    for seed in range(trials):
        test = PairedTest(margin=0.05, error_rate=0.05)
        test.update(differences(seed, 0.05)[:600])
        passed += test.decision == "not-worse"
    assert passed <= 0.05 * trials


def test_the_posterior_is_even_before_the_first_row_and_sure_in_the_end() -> None:
    assert chance_better(0, 0.0, 0.0) == 0.5
    assert chance_better(1_000, -50.0, 150.0) > 0.999
    assert chance_better(1_000, 50.0, 150.0) < 0.001
    assert chance_better(40, 0.0, 0.0) == 0.5  # two that never disagree


def test_the_posterior_says_better_as_often_as_it_is_so() -> None:
    """Gaps drawn evenly from -0.04 to 0.04: of those given 0.7 to 0.9, about 0.8 are better."""
    gaps = np.random.default_rng(1).uniform(-0.04, 0.04, 1_500)
    said = []
    for seed, gap in enumerate(gaps):
        d = differences(seed, float(gap))[:400]
        said.append(chance_better(400, float(d.sum()), float((d**2).sum())))
    near = (np.array(said) > 0.7) & (np.array(said) < 0.9)
    assert near.sum() > 150
    assert abs((gaps[near] < 0).mean() - np.array(said)[near].mean()) < 0.08


def test_an_entity_changes_its_version_only_when_the_share_passes_its_place() -> None:
    course = shares(differences(3, -0.05))
    moves = np.abs(np.diff(course))
    places = np.random.default_rng(2).random(5_000)
    arms = places[:, None] < course[None, ::LOOK]
    changed = (arms[:, 1:] != arms[:, :-1]).sum()
    assert changed / len(places) == pytest.approx(moves.sum(), abs=0.03)


def test_a_share_moves_by_no_less_than_a_step_and_grows_no_more_than_twofold() -> None:
    assert next_share(0.2, 0.22) == 0.2
    assert next_share(0.2, 0.99) == 0.4
    assert next_share(0.6, 0.99) == 1 - LEAST
    assert next_share(0.6, 0.01) == LEAST
