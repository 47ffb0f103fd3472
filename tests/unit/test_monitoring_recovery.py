from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from monitoring.recovery import Recovery, Try, gained


def test_refreshes_come_at_doubling_amounts_of_data_since_the_change() -> None:
    recovery: Recovery | None = Recovery(change=1_000, healthy=0.05)
    due = []
    for row in range(1_000, 4_000, 50):
        if recovery is not None and recovery.due(row, min_labels=300):
            due.append(row)
            recovery = recovery.after(Try(row, 0.3, True, True), 0.02)
    assert due == [1_300, 1_600, 2_200, 3_400]


def test_a_refresh_learns_the_rows_since_the_retrain_before() -> None:
    recovery = Recovery(change=1_000, healthy=0.05)
    assert recovery.first_row() == 1_000
    after = recovery.after(Try(1_300, 0.3, True, True), 0.02)
    assert after is not None
    assert after.first_row() == 1_300


def test_after_a_refusal_the_rows_that_nobody_learnt_are_learnt_again() -> None:
    refused = Recovery(change=1_000, healthy=0.05).after(Try(1_300, 0.3, False, False), 0.02)
    assert refused is not None
    assert refused.first_row() == 1_000
    assert refused.next_at(300) == 600
    served = refused.after(Try(1_600, 0.2, True, True), 0.02)
    assert served is not None
    assert served.first_row() == 1_600


def test_a_candidate_that_gained_and_did_not_serve_is_no_gain() -> None:
    tries = [Try(row, 0.3, False, True) for row in (300, 600, 1_200, 2_400)]
    recovery = Recovery(change=0, healthy=0.05)
    assert recovery.follow(tries[:3], 0.02) is not None
    assert recovery.follow(tries, 0.02) is None


def test_it_ends_when_the_loss_of_before_is_reached_again() -> None:
    recovery = Recovery(change=1_000, healthy=0.05)
    assert recovery.after(Try(1_300, 0.07, True, True), 0.02) is None


def test_it_ends_after_three_refreshes_in_a_row_without_a_gain() -> None:
    def tried(*gains: bool) -> list[bool]:
        recovery: Recovery | None = Recovery(change=0, healthy=0.05)
        going_on = []
        for row, gain in enumerate(gains, 1):
            assert recovery is not None
            recovery = recovery.after(Try(row, 0.3, True, gain), 0.02)
            going_on.append(recovery is not None)
        return going_on

    assert tried(False, False, False, False) == [True, True, True, False]
    assert tried(True, False, False, True, False, False, False) == [True] * 6 + [False]


def test_a_gain_is_more_than_chance() -> None:
    draw = np.random.default_rng(3)
    before = (draw.random(400) < 0.4).astype(float)
    assert gained((draw.random(400) < 0.1).astype(float), before, 0.05)
    assert not gained(before, before, 0.05)
    assert not gained(np.ones(400), before, 0.05)


def stream_of_a_gradual_change(rows: int, width: int) -> NDArray[np.bool_]:
    """Which rows are of the new world, whose share grows over `width` rows."""
    share = np.clip(np.arange(rows) / width, 0.0, 1.0)
    return np.asarray(np.random.default_rng(11).random(rows) < share)


@pytest.mark.parametrize("width", [1, 1_000, 4_000])
def test_a_change_of_any_pace_is_learnt_in_a_few_retrains(width: int) -> None:
    """A version loses what its newest lesson had of the old world, besides the 5 % of before."""
    new = stream_of_a_gradual_change(20_000, width)
    recovery: Recovery | None = Recovery(change=0, healthy=0.05)
    loss, retrains = 0.5, []
    for row in range(50, len(new), 50):
        if recovery is not None and recovery.due(row, min_labels=300):
            old = 1.0 - float(new[recovery.first_row() : row].mean())
            better = 0.05 + 0.45 * old
            recovery = recovery.after(Try(row, better, True, better < loss - 0.02), 0.02)
            loss = better
            retrains.append(row)
    assert loss <= 0.07
    assert len(retrains) <= np.log2(2 * width / 300 + 2) + 2
    if width > 1:
        assert len(retrains) > 1  # one at the alarm would have learnt the old world
