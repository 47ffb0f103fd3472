"""Courses over time as the points of inline SVG: x and y are in percent, y from the top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from monitoring.explaining import Shift


@dataclass(frozen=True)
class Axis:
    """A stretch of time that is 100 wide."""

    start: datetime
    end: datetime

    def x(self, at: datetime) -> float:
        """Where a moment is, in [0, 100]."""
        whole = (self.end - self.start).total_seconds()
        part = (at - self.start).total_seconds()
        return round(100 * min(max(part / whole if whole else 0.0, 0.0), 1.0), 2)


@dataclass(frozen=True)
class Course:
    """The course of one figure.

    Args:
        line: Points of a polyline.
        low: The figure at the bottom.
        high: And at the top.
        start: The moment at the left.
        end: And at the right.
        since: Where the change began, with the ends of its interval; None where not known.
    """

    line: str
    low: float
    high: float
    start: datetime
    end: datetime
    since: tuple[float, float, float] | None


def points(xs: Sequence[float], ys: Sequence[float]) -> str:
    """What a polyline takes."""
    return " ".join(f"{x:g},{y:g}" for x, y in zip(xs, ys, strict=True))


def height(value: float, low: float, high: float) -> float:
    """Where a value is between two others, from the top, in [0, 100]."""
    share = (value - low) / (high - low) if high > low else 0.5
    return round(100 * (1 - min(max(share, 0.0), 1.0)), 2)


def course_of(shift: Shift) -> Course | None:
    """How a change went; None where there are not two points."""
    if len(shift.course) < 2:
        return None
    axis = Axis(shift.course[0].at, shift.course[-1].at)
    values = [point.value for point in shift.course]
    low, high = min(values), max(values)
    xs = [axis.x(point.at) for point in shift.course]
    since = shift.since
    return Course(
        line=points(xs, [height(value, low, high) for value in values]),
        low=low,
        high=high,
        start=axis.start,
        end=axis.end,
        since=(axis.x(since.low), axis.x(since.at), axis.x(since.high)) if since else None,
    )
