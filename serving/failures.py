"""What versions could not answer: of the champion the newest failures, of the challenger all."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta

from monitoring.signals import Signal
from serving.answering import Answered

HARD_FAILURES = 3  # failing batches
HARD_WINDOW = timedelta(seconds=10)
FAILURES = "hard-failure"


class Failures:
    """Counted as batches are answered."""

    def __init__(self) -> None:
        self._failing: deque[datetime] = deque(maxlen=HARD_FAILURES)
        self.challenger = 0
        """Requests that the challenger could not answer since it came."""
        self.answers = 0
        """Rows that it answered in canary since it came, or this process started."""

    def forget_champion(self) -> None:
        """Champion or standby is another one."""
        self._failing.clear()

    def forget_challenger(self) -> None:
        """The challenger is another one."""
        self.challenger = self.answers = 0

    def note(self, done: Answered, at: datetime, challenger: int) -> None:
        """Take note of a batch, answered at a moment with this challenger (0: none) in its role."""
        if done.champion_alone_failed:
            self._failing.append(at)
        if challenger:
            self.challenger += done.failures.get(challenger, 0)
            self.answers += done.rows_of(challenger)

    def signal(self, fault: str | None, now: datetime) -> Signal | None:
        """That a champion fails where its standby does not.

        Args:
            fault: What is wrong with it for good.
            now: The present.
        """
        if fault:
            return _failed(1, 1.0, now, reason=fault)
        recent = [at for at in self._failing if now - at <= HARD_WINDOW]
        if len(recent) < HARD_FAILURES:
            return None
        return _failed(len(recent), float(HARD_FAILURES), recent[0])


def _failed(count: int, threshold: float, since: datetime, **details: str) -> Signal:
    return Signal(
        kind="hard-failure",
        detector=FAILURES,
        evidence=float(count),
        threshold=threshold,
        rows=count,
        since=count,
        details={"since_at": since.isoformat(), **details},
    )
