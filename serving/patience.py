"""Nobody holds a connection by being slow: deadlines for heads, bodies and answers.

One look at all connections each half second costs nothing while requests come whole, as nearly all
do; a timer for each connection would be made and cancelled for each request.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from homeostat.errors import InputError, TooLarge

SWEEP_SECONDS = 0.5


class TooSlow(InputError):
    """A request did not come whole in time."""

    code = "too-slow"


class HeadTooLarge(TooLarge):
    """The head of a request has too many bytes, or too many headers."""

    code = "head-too-large"


@dataclass(frozen=True)
class Limits:
    """What a connection may take.

    Args:
        head_seconds: Until the head of a request is whole, from its first byte on, or from the
            connection's beginning where nothing comes.
        body_seconds: Until the body is whole, from the first byte of the head on; and how long an
            answer may wait for a client that does not read.
        head_bytes: Of one request's head.
        headers: Of one request.
    """

    head_seconds: float = 10.0
    body_seconds: float = 30.0
    head_bytes: int = 32 * 1024
    headers: int = 100


class Connection(Protocol):
    """A connection that the sweep looks at."""

    def end_if_late(self, now: float) -> None:
        """Hang up if a deadline has passed; `now` is the loop's clock."""


class Sweep:
    """Looks at the connections of a server as long as there are any."""

    def __init__(self) -> None:
        self._open: set[Connection] = set()
        self._armed = False

    def add(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        """A connection came."""
        self._open.add(connection)
        if not self._armed:
            self._armed = True
            loop.call_later(SWEEP_SECONDS, self._look, loop)

    def remove(self, connection: Connection) -> None:
        """It is gone."""
        self._open.discard(connection)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in list(self._open):
            connection.end_if_late(now)
        self._armed = bool(self._open)
        if self._armed:
            loop.call_later(SWEEP_SECONDS, self._look, loop)
