"""How much one holder of a token may ask for: so many requests a second, so many at once."""

from __future__ import annotations

import math

from homeostat.errors import RateLimited


class Meter:
    """A token bucket and a count of what is under way; 0 is no limit.

    Used by the thread that answers, and by the few of the admin routes: a race between them costs
    one request too many, never a count that stays wrong by more.

    Args:
        rate: Requests a second, in the long run.
        burst: Requests at once after a pause; the bucket's size.
        concurrent: Requests under way at a time.
    """

    def __init__(self, rate: float = 0, burst: int = 0, concurrent: int = 0) -> None:
        self._rate, self._concurrent = rate, concurrent
        self._size = max(float(burst), rate, 1.0)
        self._left, self._since = self._size, -math.inf
        self.under_way = 0

    def take(self, now: float) -> float:
        """Take one request out of the bucket: 0, or the seconds until there is one.

        Args:
            now: Seconds on any clock that only goes forward.
        """
        if not self._rate:
            return 0.0
        left = min(self._size, self._left + (now - self._since) * self._rate)
        self._since = now
        if left < 1.0:
            self._left = left
            return (1.0 - left) / self._rate
        self._left = left - 1.0
        return 0.0

    @property
    def full(self) -> bool:
        """Whether as many requests are under way as may be."""
        return bool(self._concurrent) and self.under_way >= self._concurrent

    def enter(self, name: str, now: float) -> None:
        """Let a request in, or say why not; `leave` must follow where it is let in.

        Raises:
            RateLimited: too many at once, or too many a second.
        """
        if self.full:
            raise RateLimited(
                f"{self.under_way} requests of '{name}' are under way, as many as may be.",
                remedy="Wait for answers, or have token_concurrency raised.",
                limit=self._concurrent,
            )
        if wait := self.take(now):
            raise RateLimited(
                f"'{name}' asks for more than {self._rate:g} requests a second.",
                remedy="Ask more slowly, or have token_rate raised.",
                limit=self._rate,
                retry_after=math.ceil(wait),
            )
        self.under_way += 1

    def leave(self) -> None:
        """A request that was let in is answered, or gone."""
        self.under_way -= 1
