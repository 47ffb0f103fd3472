"""When the rows were that a detector has seen: dates its estimate of a change."""

from __future__ import annotations

from collections import deque
from datetime import datetime

KEPT = 20_000  # of the newest rows or batches


class Moments:
    """The moments of the newest rows, in the order in which a detector saw them."""

    def __init__(self) -> None:
        self._seen: deque[tuple[datetime, int]] = deque(maxlen=KEPT)

    def add(self, at: datetime, rows: int = 1) -> None:
        """Note that so many rows were predicted at a moment."""
        self._seen.append((at, rows))

    def ago(self, rows: int, otherwise: datetime) -> datetime:
        """When the row was predicted that came so many rows ago; the oldest kept, at most."""
        at = otherwise
        for moment, count in reversed(self._seen):
            at = moment
            rows -= count
            if rows <= 0:
                break
        return at
