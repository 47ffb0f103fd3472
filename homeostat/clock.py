"""Time as a value: everything that decides takes a clock, so that it can be simulated."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The present moment in UTC, with microseconds."""
    return datetime.now(UTC)
