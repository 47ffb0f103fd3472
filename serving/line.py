"""How many requests may wait for one model: as many as are answered in a stated time.

What a request waits for cannot be seen when it comes (a batch costs a fixed part and a part for
each row, and other models share the loop), so it is learnt from each batch: how many it answered,
and how long the first of them had been there. Above the stated time the line is shortened in
proportion; below it, it grows again as long as it is in use. So under any overload what is taken in
is answered soon, and the rest is refused before it costs more than its bytes. The idea is that of
CoDel: the time in the queue is what is controlled, not its length (Nichols and Jacobson,
*Controlling Queue Delay*, ACM Queue 10(5), 2012); shorten by a factor and grow by steps is that of
congestion control (Chiu and Jain, 1989).
"""

from __future__ import annotations

import math

from homeostat.errors import RateLimited

LONGEST = 4096  # requests, whatever was measured
FIRST = 1024  # before anything was
FEWEST = 8  # a few callers, each with one request, are no overload, however slow the machine is
SLACK = 4.0  # how often a model may take what one request alone takes, where that is long
ALONE = 2  # so many requests in a batch, and nobody waited
MANY = 8  # so many tell what each costs
GROWTH = 8  # a line in use grows by one eighth of itself


class Overloaded(RateLimited):
    """More requests wait than are answered in `max_queue_ms`; `retry_after` says when to ask."""

    code = "overloaded"


class Line:
    """The bounded line before one model.

    Args:
        seconds: How long a request may be there until it is answered, about.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._alone = 0.0
        self._took, self._ended = 0.0, 0.0  # of the last batch
        self._told: Overloaded | None = None
        self._fitted: int | None = None  # of the last batch, if it took too long
        self.limit = FIRST

    @property
    def seconds(self) -> float:
        """How long a request may take: longer than was said where one alone takes long."""
        return max(self._seconds, SLACK * self._alone)

    def measured(self, requests: int, began: float, ended: float) -> None:
        """Learn from a batch.

        While the loop works it reads nobody: who asks meanwhile waits unseen, for as long as the
        batch before took, at most. That counts where a batch begins as soon as the last one ends.

        Args:
            requests: How many it answered.
            began: When the first of them was read, in seconds of a clock that only goes forward.
            ended: When they were answered.
        """
        seconds = max(ended - began, 1e-6)
        unseen = self._took if 0.0 <= began - self._ended < self._took else 0.0
        self._took, self._ended = seconds, ended
        if requests <= ALONE:
            self._alone = 0.9 * self._alone + 0.1 * seconds if self._alone else seconds
        seconds += unseen
        allowed, limit = self.seconds, self.limit
        fits, before = int(requests * allowed / seconds), self._fitted
        self._fitted = fits if seconds > allowed else None
        if seconds > allowed:
            # Twice in a row, or it was a hiccup of the machine: the queue is what stands.
            limit = limit if before is None else min(limit, max(fits, before))
        else:
            if 2 * requests >= limit:
                limit = max(limit, min(fits, limit + max(1, limit // GROWTH)))
            if requests >= MANY:  # never twice what these show that it can be
                limit = min(limit, max(2 * requests, 2 * fits))
        self.limit = max(FEWEST, min(limit, LONGEST))

    def refusal(self, model: str) -> Overloaded:
        """What a request is told that finds the line full; the same object while that is true.

        Refusing has to cost next to nothing: under five times the capacity it is most of the work.
        """
        if self._told is None or self._told.fields["limit"] != self.limit:
            self._told = self._refusal(model)
        return self._told

    def _refusal(self, model: str) -> Overloaded:
        return Overloaded(
            f"{self.limit} requests wait for '{model}', as many as are answered in "
            f"{1000 * self.seconds:.0f} ms.",
            remedy="Ask again after retry_after seconds; more replicas answer more.",
            model=model,
            limit=self.limit,
            retry_after=math.ceil(self.seconds),
        )
