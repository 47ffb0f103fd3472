"""Evidently's own tests of columns over windows of the streams of the drift benchmark.

    python -m benchmarks.peers.evidently_drift STREAMS.npy window THRESHOLD REFERENCE

What its data drift preset does by default with a large reference: the normed Wasserstein distance
of a number, the Jensen-Shannon distance of a category. An alarm is a window with any column at or
above the threshold; its report's rule of half the columns misses every change of a few.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
from evidently.legacy.calculations.stattests import jensenshannon_stat_test, wasserstein_stat_test
from evidently.legacy.core import ColumnType
from numpy.typing import NDArray

WINDOW = 1_000


def score(reference: NDArray[np.float64], current: NDArray[np.float64], coded: bool) -> float:
    """The drift score of one column of a window."""
    test = jensenshannon_stat_test if coded else wasserstein_stat_test
    kind = ColumnType.Categorical if coded else ColumnType.Numerical
    return float(test(pd.Series(reference), pd.Series(current), kind, None).drift_score)


def alarms(stream: NDArray[np.float64], skip: int, threshold: float) -> list[int]:
    """The ends of the windows of (T, F) rows that drifted from the first `skip` rows."""
    reference, rows = stream[:skip], stream[skip:]
    found = []
    for end in range(WINDOW, len(rows) + 1, WINDOW):
        window = rows[end - WINDOW : end]
        scores = (
            score(reference[:, i], window[:, i], coded=16 <= i <= 20) for i in range(rows.shape[1])
        )
        if any(one >= threshold for one in scores):
            found.append(end)
    return found


def main() -> None:
    """Answer for the streams of the command line."""
    path, _, threshold, reference = sys.argv[1:]
    streams = np.load(path)
    print(json.dumps([alarms(one, int(reference), float(threshold)) for one in streams]))


if __name__ == "__main__":
    main()
