"""What moved, from which bins to which, and since when: a closer look after an alarm.

It decides nothing: the alarm was the detector's, with its budget. A column is named where the
likeliest split gains more than log(columns x splits / 0.05): were nothing changed, so large a
gain anywhere has a probability of about 0.05 (Markov's inequality and the union bound; about,
as the shares before are estimated). Shapes: N rows, C columns, B bins, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monitoring.change_point import CLEAR, ChangePoint, change_point
from monitoring.columns import Binning, Column
from monitoring.profile import LOSS_BINS, Profile

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

STEPS = 500  # at most: the rows are looked at in so many groups
COURSE = 60  # points of a course
ERROR_RATE = 0.05  # of naming any column where nothing changed
_NAMED = 3  # bins that words name
_LEAST = 0.02  # change of a bin's share that is worth a word


@dataclass(frozen=True)
class BinShare:
    """The share of the rows in one bin, before and after."""

    name: str
    before: float
    after: float


@dataclass(frozen=True)
class Since:
    """When a change began, by the estimate, and the interval that holds it at `level`."""

    at: datetime
    low: datetime
    high: datetime
    level: float


@dataclass(frozen=True)
class CoursePoint:
    """A stretch of rows: the share of the bin that moved most, or the mean loss."""

    at: datetime
    value: float
    rows: int


@dataclass(frozen=True)
class Shift:
    """How one column, or the loss, changed.

    Args:
        name: The feature, `prediction`, `confidence`, `loss` or `loss beside the standby`.
        named: Whether the change passed the bar for all columns together.
        gain: Log likelihood of the best split above that of no change.
        total_variation: Between the shares before and after, in [0, 1].
        bins: Every bin, in its order.
        since: When it began; None where the rows do not tell, or differ from the first on.
        rows_before: Rows before, those of the reference included.
        rows_after: Rows after.
        mean: Of a loss: its mean before and after; None of a column.
        course: Over time, oldest first.
    """

    name: str
    named: bool
    gain: float
    total_variation: float
    bins: tuple[BinShare, ...]
    since: Since | None
    rows_before: int
    rows_after: int
    mean: tuple[float, float] | None = None
    course: tuple[CoursePoint, ...] = ()

    @property
    def moved(self) -> tuple[BinShare, ...]:
        """The bins whose shares changed most, the largest change first."""
        worth = [one for one in self.bins if abs(one.after - one.before) >= _LEAST]
        return tuple(sorted(worth, key=lambda one: -abs(one.after - one.before))[:_NAMED])


def explain_columns(
    profile: Profile, values: Floats, moments: Sequence[datetime]
) -> tuple[Shift, ...]:
    """How the columns of a version's rows changed, the clearest change first.

    Args:
        profile: The version's: its bins, and how its reference fell into them.
        values: (N, C) as `monitoring.profile.stack` makes them, in the order of time.
        moments: (N,) when they were predicted.
    """
    part, firsts = _steps(len(values))
    counts = profile.count_parts(values, part, len(firsts))
    bar = _bar(len(profile.columns), len(firsts))
    found = []
    for index, column in enumerate(profile.columns):
        steps = counts[:, index, : column.width]
        split = change_point(steps, np.asarray(column.counts))
        shares = _shares(column, split)
        moved = int(np.argmax([abs(one.after - one.before) for one in shares]))
        course = _course(steps[:, moved], steps.sum(axis=1), firsts, moments)
        found.append(_shift(column.name, bar, split, shares, firsts, moments, course=course))
    return tuple(sorted(found, key=lambda shift: -shift.gain))


def explain_loss(
    name: str,
    losses: ArrayLike,
    moments: Sequence[datetime],
    low: float = 0.0,
    reference: Sequence[int] = (),
) -> Shift:
    """How losses, or differences of losses, changed.

    Args:
        name: What they are.
        losses: (N,) in [low, 1], in the order of prediction.
        moments: (N,) when the predictions were made.
        low: 0 for losses, -1 for differences.
        reference: The profile's histogram of losses, if they compare with it.
    """
    values = np.asarray(losses, dtype=np.float64)
    edges = np.linspace(low, 1.0, LOSS_BINS + 1)[1:-1]
    column = Column(name, "numeric", tuple(edges.tolist()), (), (), ())
    part, firsts = _steps(len(values))
    steps = Binning([column]).count_parts(values[:, None], part, len(firsts))[:, 0, :]
    split = change_point(steps, np.array([*reference, 0])) if reference else change_point(steps)
    first = int(firsts[split.split]) if split.split < len(firsts) else len(values)
    middles = np.linspace(low, 1.0, 2 * LOSS_BINS + 1)[1::2]
    known = np.array(reference or [0] * LOSS_BINS, dtype=np.float64)
    # A histogram of 0 and 1 says exactly what the mean is, if its end bins are read as 0 and 1.
    middles[[0, -1]] = (low, 1.0)
    total = float(values[:first].sum() + known @ middles)
    before = total / max(first + float(known.sum()), 1.0)
    after = float(values[first:].mean()) if first < len(values) else before
    sums = np.bincount(part, values, minlength=len(firsts))
    sizes = np.bincount(part, minlength=len(firsts))
    course = _course(sums, sizes, firsts, moments)
    shares = _shares(column, split)
    bar = _bar(1, len(firsts))
    return _shift(name, bar, split, shares, firsts, moments, mean=(before, after), course=course)


def _steps(rows: int) -> tuple[Counts, Counts]:
    """The step that each row is of (N,), and the first row of each step (T,)."""
    size = max(1, -(-rows // STEPS))
    part = np.arange(rows) // size
    return part, np.arange(0, rows, size)


def _bar(columns: int, splits: int) -> float:
    return max(CLEAR, math.log(columns * max(splits, 1) / ERROR_RATE))


def _shares(column: Column, split: ChangePoint) -> tuple[BinShare, ...]:
    before, after = np.asarray(split.before), np.asarray(split.after)
    shares = (before / max(before.sum(), 1.0), after / max(after.sum(), 1.0))
    return tuple(
        BinShare(column.bin_name(index), float(shares[0][index]), float(shares[1][index]))
        for index in range(column.width)
    )


def _shift(
    name: str,
    bar: float,
    split: ChangePoint,
    bins: tuple[BinShare, ...],
    firsts: Counts,
    moments: Sequence[datetime],
    *,
    mean: tuple[float, float] | None = None,
    course: tuple[CoursePoint, ...] = (),
) -> Shift:
    return Shift(
        name=name,
        named=split.gain >= bar,
        gain=split.gain,
        total_variation=sum(abs(one.after - one.before) for one in bins) / 2,
        bins=bins,
        since=_since(split, firsts, moments) if split.gain >= CLEAR and split.split else None,
        rows_before=int(sum(split.before)),
        rows_after=int(sum(split.after)),
        mean=mean,
        course=course,
    )


def _since(split: ChangePoint, firsts: Counts, moments: Sequence[datetime]) -> Since:
    """The split in time; as a step has several rows, its interval reaches a step further."""
    size = int(firsts[1]) if len(firsts) > 1 else len(moments)
    low = int(firsts[max(split.low - (size > 1), 0)])
    high = min(int(firsts[split.high]) + size - 1, len(moments) - 1)
    return Since(moments[int(firsts[split.split])], moments[low], moments[high], split.level)


def _course(
    sums: ArrayLike, sizes: ArrayLike, firsts: Counts, moments: Sequence[datetime]
) -> tuple[CoursePoint, ...]:
    """Means of a few steps at a time."""
    total, rows = np.asarray(sums, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    every = max(1, -(-len(firsts) // COURSE))
    starts = np.arange(0, len(firsts), every)
    total, rows = np.add.reduceat(total, starts), np.add.reduceat(rows, starts)
    return tuple(
        CoursePoint(moments[int(firsts[start])], float(value / count), int(count))
        for start, value, count in zip(starts, total, rows, strict=True)
        if count
    )
