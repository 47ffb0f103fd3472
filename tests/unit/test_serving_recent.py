"""Counts of the last hour: whole stretches, the oldest forgotten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from serving.recent import KEPT, STRETCH, Recent

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
ONE = np.ones((2, 3), dtype=np.int64)


def test_counts_of_a_window_add_up_and_old_ones_are_forgotten() -> None:
    recent = Recent()
    for number in range(KEPT // STRETCH + 10):
        for second in (0, 10):
            recent.add(NOON + number * STRETCH + timedelta(seconds=second), ONE)
    end = NOON + KEPT + 10 * STRETCH
    whole = recent.within(NOON, end)
    assert whole is not None
    assert (whole == 2 * (KEPT // STRETCH)).all()
    part = recent.within(end - 3 * STRETCH, end)
    assert part is not None
    assert (part == 6).all()
    assert recent.within(NOON, NOON + STRETCH) is None
    assert (ONE == 1).all()  # what was given is left as it was
    recent.clear()
    assert recent.within(NOON, end) is None
