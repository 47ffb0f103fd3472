from __future__ import annotations

import numpy as np

from flows.recovery import Recovery, gained


def test_refreshes_come_at_doubling_amounts_of_data_since_the_change() -> None:
    recovery: Recovery | None = Recovery(change=1_000, healthy=0.05)
    due = []
    for row in range(1_000, 4_000, 50):
        if recovery is not None and recovery.due(row, min_labels=300):
            due.append(row)
            recovery = recovery.after(row, loss=0.3, gained=True, tolerance=0.02)
    assert due == [1_300, 1_600, 2_200, 3_400]


def test_a_refresh_learns_the_rows_since_the_retrain_before() -> None:
    recovery = Recovery(change=1_000, healthy=0.05)
    assert recovery.first_row() == 1_000
    after = recovery.after(1_300, loss=0.3, gained=True, tolerance=0.02)
    assert after is not None
    assert after.first_row() == 1_300


def test_it_ends_when_the_loss_of_before_is_reached_again() -> None:
    recovery = Recovery(change=1_000, healthy=0.05)
    assert recovery.after(1_300, loss=0.07, gained=True, tolerance=0.02) is None


def test_it_ends_after_two_refreshes_in_a_row_without_a_gain() -> None:
    def tried(*gains: bool) -> list[bool]:
        recovery: Recovery | None = Recovery(change=0, healthy=0.05)
        going_on = []
        for row, gain in enumerate(gains, 1):
            assert recovery is not None
            recovery = recovery.after(row, loss=0.3, gained=gain, tolerance=0.02)
            going_on.append(recovery is not None)
        return going_on

    assert tried(False, False, False) == [True, True, False]
    assert tried(True, False, True, False, False) == [True, True, True, True, False]


def test_a_gain_is_more_than_chance() -> None:
    draw = np.random.default_rng(3)
    before = (draw.random(400) < 0.4).astype(float)
    assert gained((draw.random(400) < 0.1).astype(float), before, 0.05)
    assert not gained(before, before, 0.05)
    assert not gained(np.ones(400), before, 0.05)
