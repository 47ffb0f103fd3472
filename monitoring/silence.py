"""When silence means that something broke: no traffic, no labels, a monitor that stopped.

A monitor that sees nothing raises no alarm, so what it does not see has to be a signal of its own.
How long a stream may be quiet is stated by its owner, or learnt from the stream: twice the longest
pause of its last `HABIT_SPAN`. Under a habit that does not change, each of n pauses is as likely
as any to be the longest, so the next one is longer with probability 1/(n + 1), and rarely twice as
long. Nothing is learnt before `HABIT_NEEDED`, which has a weekend in it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta

Span = tuple[datetime, datetime]  # the first and the last event of a busy stretch

HABIT_SPAN = timedelta(days=14)
HABIT_NEEDED = timedelta(days=8)
HABIT_TIMES = 2
HABIT_LEAST = timedelta(hours=1)  # events are known by the hour: shorter pauses do not show
STRETCHES = 3  # one after the other, all of them missed, before a monitor counts as stopped
WATCHED = 0.9  # share of the logged rows that a monitor which works has counted, at least


def allowed_silence(stated: float | None, spans: Sequence[Span]) -> timedelta | None:
    """How long a stream may be quiet; None: as long as it likes.

    Args:
        stated: Seconds that the owner allows; 0: any; None: what the stream itself is used to.
        spans: Busy stretches of the last `HABIT_SPAN`, in any order; they may overlap.
    """
    if stated is not None:
        return timedelta(seconds=stated) if stated else None
    if not spans or max(last for _, last in spans) - min(spans)[0] < HABIT_NEEDED:
        return None
    ordered = sorted(spans)
    ends = itertools.accumulate((last for _, last in ordered), max)
    pauses = [first - end for (first, _), end in zip(ordered[1:], ends, strict=False)]
    return max(HABIT_LEAST, HABIT_TIMES * max(pauses, default=HABIT_LEAST))


def is_silent(
    last: datetime | None,
    listening: datetime,
    allowed: timedelta | None,
    now: datetime,
    told_at: datetime | None = None,
) -> bool:
    """Whether a stream has been quiet for longer than it may.

    Args:
        last: Its newest event, if there was one.
        listening: Since when one could be expected: what nobody could bring while everything was
            down is not missed, and no label before there was a prediction.
        allowed: As `allowed_silence` says.
        now: The present moment.
        told_at: When its silence was told of, if it was: that ends with a newer event alone.
    """
    if allowed is None:
        return False
    if told_at is not None and (last is None or last <= told_at):
        return True
    return now - (max(last, listening) if last else listening) > allowed


def is_unwatched(stretches: Sequence[tuple[int, int]]) -> bool | None:
    """Whether a monitor stopped while answers went on; None: there was too little to tell.

    Args:
        stretches: Rows logged and rows that monitors counted, in stretches of equal length, oldest
            first. One missed stretch is what a killed gateway had not brought; `STRETCHES` in a
            row are a monitor that stopped.
    """
    newest = stretches[-STRETCHES:]
    if len(newest) < STRETCHES or not all(logged for logged, _ in newest):
        return None
    missed = [counted < WATCHED * logged for logged, counted in newest]
    if all(missed):
        return True
    return None if missed[-1] else False
