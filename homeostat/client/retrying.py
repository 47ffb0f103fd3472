"""When to ask again: only where nothing was done, or doing it twice is as doing it once.

A label counts once however often it comes. A prediction that was answered is logged under an id
that only its answer tells: where the answer was lost, asking again makes a second one. So a
prediction is asked again where the request did not reach the gateway, or was refused before it was
worked on.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

import httpx

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 10.0
REFUSED = frozenset({429, 503})  # with Retry-After, before anything was done

# The request was not sent: nobody has seen it.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass
class Tries:
    """How one request is repeated.

    Args:
        most: Attempts, the first among them.
        again: Whether it may be done twice.
        seconds: After which no other attempt is begun.
    """

    most: int
    again: bool
    seconds: float
    made: int = 0
    _began: float = field(default_factory=time.monotonic)

    def after(self, failure: httpx.HTTPError | httpx.Response) -> float | None:
        """How long to wait before the next attempt; None: there is to be none.

        Args:
            failure: How the last attempt ended.
        """
        self.made += 1
        if self.made >= self.most or not self._is_worth_it(failure):
            return None
        # Spread, so that callers who were refused together do not come back together.
        wait = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** (self.made - 1))
        wait *= random.uniform(0.5, 1.0)
        if isinstance(failure, httpx.Response):
            wait = max(wait, _asked_for(failure))
        return wait if time.monotonic() - self._began + wait < self.seconds else None

    def _is_worth_it(self, failure: httpx.HTTPError | httpx.Response) -> bool:
        if isinstance(failure, httpx.Response):
            return failure.status_code in REFUSED
        return self.again or isinstance(failure, _NOT_SENT)


def _asked_for(answer: httpx.Response) -> float:
    try:
        return max(0.0, float(answer.headers.get("retry-after", "0")))
    except ValueError:
        return 0.0
