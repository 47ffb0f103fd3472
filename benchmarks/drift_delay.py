"""Part two of the drift benchmark: how soon each side sees a change, at equal false alarms.

Each side gets the most sensitive of its settings that alarms no more often than `RATE` on streams
that do not change, and then the same changing streams. Ours stands there twice: with the budget as
promised, and tuned as the peers are.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import numpy as np

from benchmarks.drift_sides import Alarms, Side, alarms
from benchmarks.drift_streams import Change, Floats

BUDGET = 100_000
AT_ONCE = 4  # streams that one process takes
RATE = 10_000 / BUDGET  # alarms per 10,000 rows (labels)


@dataclass(frozen=True)
class Amounts:
    """How much is run.

    Args:
        reference: Rows that each stream begins with.
        before: Rows from the reference to a change; windows of 1,000 are cut in their middle.
        still: Streams without change, of `length` rows each.
        length: Their rows.
        streams: Streams of each change.
        after: Their rows after the change; no alarm in them is a miss.
    """

    reference: int
    before: int
    still: int
    length: int
    streams: int
    after: int


@dataclass(frozen=True)
class Tuned:
    """A side's setting and the false alarms per 10,000 rows that it was seen to give."""

    side: Side
    setting: float
    rate: float
    shown: str


def tuned(pool: Executor, sides: Sequence[Side], still: Change, amounts: Amounts) -> list[Tuned]:
    """Each side at the equal rate, and as shipped where that is shown.

    A side none of whose settings is quiet enough is told and keeps its quietest.
    """
    streams = still.streams(1, amounts.still, 0, amounts.reference + amounts.length)
    rows = len(streams) * amounts.length
    found = []
    for side in installed(sides):
        wanted = sorted({*side.settings, *([side.default] if side.default else [])})
        running = {one: watched(pool, side, one, amounts.reference, streams) for one in wanted}
        rates = {one: 10_000 * count(parts) / rows for one, parts in running.items()}
        quiet = [one for one in side.settings if rates[one] <= RATE or len(side.settings) == 1]
        best = quiet[0] if quiet else side.settings[-1]
        loud = "" if quiet else " (none is quiet)"
        found.append(Tuned(side, best, rates[best], f"{side.name} {best:g}{loud}"))
        if side.default is not None and side.default != best:
            shipped = rates[side.default]
            found.append(Tuned(side, side.default, shipped, f"{side.name} as shipped"))
    return found


def installed(sides: Sequence[Side]) -> list[Side]:
    """Those that can run here; of the others it is told why not."""
    found = []
    for side in sides:
        if side.peer:
            from benchmarks.environments import Missing, python_of  # only peers need their world

            try:
                python_of(side.peer)
            except Missing as why:
                print(f"{side.name} is left out: {why}")
                continue
        found.append(side)
    return found


def watched(
    pool: Executor, side: Side, setting: float, reference: int, streams: Floats
) -> list[Future[Alarms]]:
    """Where a side alarms in (S, T) or (S, T, F) streams, some of them at a time."""
    size = len(streams) if side.peer else AT_ONCE  # a peer starts anew for each part
    return [
        pool.submit(alarms, side, setting, reference, streams[start : start + size])
        for start in range(0, len(streams), size)
    ]


def count(parts: Sequence[Future[Alarms]]) -> int:
    """All alarms."""
    return sum(len(one) for part in parts for one in part.result())


def delays(parts: Sequence[Future[Alarms]], before: int) -> list[float]:
    """Rows from the change to the first alarm after it; infinite where there is none."""
    return [first_after(one, before) - before for part in parts for one in part.result()]


def first_after(found: Sequence[int], before: int) -> float:
    """The first alarm after a row; infinite where there is none."""
    return min((float(alarm) for alarm in found if alarm > before), default=math.inf)


def told(found: Sequence[float]) -> str:
    """The median delay, and how many streams of all were missed."""
    missed = sum(math.isinf(one) for one in found)
    median = statistics.median(found)
    return ("never" if math.isinf(median) else f"{median:,.0f}") + (
        f" ({missed})" if missed else ""
    )


def print_table(
    pool: Executor,
    title: str,
    sides: Sequence[Tuned],
    changes: Sequence[Change],
    amounts: Amounts,
) -> None:
    """Median delays of all sides on all changes, and what theory says where it says something."""
    running: list[list[list[Future[Alarms]]]] = []
    knowing: list[str] = []
    for seed, change in enumerate(changes, 2):
        before = amounts.reference + amounts.before
        streams = change.streams(seed, amounts.streams, before, amounts.after)
        running.append(
            [watched(pool, one.side, one.setting, amounts.reference, streams) for one in sides]
        )
        known = change.likelihood
        found = [] if known is None else informed(known(streams[:, amounts.reference :]))
        firsts = [first_after(one, amounts.before) - amounts.before for one in found]
        knowing.append(told(firsts) if firsts else "")
    print(f"\n{title}")
    print(
        f"Median of {amounts.streams} streams; in brackets those without alarm in {amounts.after:,}"
    )
    for number, side in enumerate(sides):
        print(f"  [{number}] {side.shown}: {side.rate:.2f} false alarms per 10,000")
    columns = [f"[{number}]" for number in range(len(sides))] + ["who knows", "bound"]
    print(f"{'':<30}" + "".join(f"{name:>13}" for name in columns))
    for index, change in enumerate(changes):
        cells = [told(delays(parts, amounts.before)) for parts in running[index]]
        least = bound(change.divergence)
        cells += [knowing[index], "" if math.isnan(least) else f"{least:,.0f}"]
        print(f"{change.name:<30}" + "".join(f"{cell:>13}" for cell in cells), flush=True)
    print_ratios(running, amounts.before)


def print_ratios(running: Sequence[Sequence[Sequence[Future[Alarms]]]], before: int) -> None:
    """The first side's delay over each other's: geometric mean over the changes both mostly see."""
    medians = np.array(
        [[statistics.median(delays(parts, before)) for parts in row] for row in running]
    )
    seen = np.isfinite(medians)
    cells = []
    for other in range(medians.shape[1]):
        both = seen[:, 0] & seen[:, other]
        logs = np.log(medians[both, 0] / medians[both, other])
        cells.append(f"{math.exp(logs.mean()):.2f}" if both.any() else "-")
    print(f"{'our delay x (geometric mean)':<30}" + "".join(f"{cell:>13}" for cell in cells))


def informed(odds: Floats) -> Alarms:
    """Where one who knows what is before and after alarms, of (S, T) log likelihood ratios.

    The Shiryaev-Roberts rule R <- (R + 1) exp(odds), with an alarm at R >= budget, takes at least
    the budget from one false alarm to the next, and of all rules that do, the one whose threshold
    just meets that has the least mean delay of a change long after the start (Pollak, Tartakovsky,
    *Optimality properties of the Shiryaev-Roberts procedure*, 2009).
    """
    running = np.zeros(len(odds))
    found: Alarms = [[] for _ in odds]
    for row, factors in enumerate(np.exp(odds).T, 1):
        running = (running + 1.0) * factors
        for stream in np.flatnonzero(running >= BUDGET):
            found[stream].append(row)
            running[stream] = 0.0
    return found


def bound(divergence: float) -> float:
    """What no detector of this budget can beat in its worst expected delay.

    log(budget) / KL(after, before), to first order (Lorden 1971; Moustakides 1986), for one who
    knows both distributions. Not of medians: a lucky stream is seen sooner.
    """
    return math.log(BUDGET) / divergence
