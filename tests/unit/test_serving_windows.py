from __future__ import annotations

from collections import Counter

import numpy as np

from registry.input_counts import InputCounts
from serving.windows import MOST, Windows


def counts(window: int, digest: str = "d", generation: int = 1, rows: int = 2) -> InputCounts:
    return InputCounts("m", window, digest, generation, rows, np.array([rows, 0, window]))


def test_counts_of_one_window_and_version_add_up() -> None:
    windows = Windows()
    for one in (counts(7), counts(7, generation=3, rows=5), counts(7, "other"), counts(8)):
        windows.add(one)
    first, other = windows.take(8)
    assert (first.digest, first.generation, first.rows) == ("d", 3, 7)
    assert first.counts.tolist() == [7, 0, 14]
    assert (other.digest, other.rows) == ("other", 2)
    assert [one.window for one in windows.take()] == [8]
    assert windows.take() == []


def test_while_nothing_can_be_brought_the_oldest_windows_grow_wider_and_no_row_is_lost() -> None:
    windows = Windows()
    for window in range(3 * MOST):
        windows.add(counts(window, "d" if window % 3 else "other"))
    taken = windows.take()
    assert len(taken) <= MOST
    assert [one.window for one in taken[-9:]] == list(range(3 * MOST - 9, 3 * MOST))
    rows: Counter[str] = Counter()
    for one in taken:
        rows[one.digest] += one.rows
        assert one.counts[0] == one.rows
    assert rows == {"d": 4 * MOST, "other": 2 * MOST}
