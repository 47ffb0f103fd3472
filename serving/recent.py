"""What a model's inputs were lately: counts by stretches of time, the oldest forgotten."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

STRETCH = timedelta(seconds=30)
KEPT = timedelta(hours=1)

Counts = NDArray[np.int64]


class Recent:
    """Counts of the last hour, by the moment of the rows; not safe for threads by itself."""

    def __init__(self) -> None:
        self._stretches: deque[tuple[datetime, Counts]] = deque(maxlen=KEPT // STRETCH)

    def add(self, at: datetime, counts: Counts) -> None:
        """Count rows that were answered at a moment, (C, B); moments do not fall much."""
        if self._stretches and at < self._stretches[-1][0] + STRETCH:
            start, before = self._stretches[-1]
            self._stretches[-1] = (start, before + counts)
        else:
            self._stretches.append((at, counts.copy()))

    def within(self, start: datetime, end: datetime) -> Counts | None:
        """The counts of stretches that began in [start, end), (C, B); None: there are none."""
        found = [counts for at, counts in self._stretches if start <= at < end]
        return np.asarray(sum(found[1:], found[0])) if found else None

    def clear(self) -> None:
        """Forget everything."""
        self._stretches.clear()
