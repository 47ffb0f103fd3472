"""Part of the drift benchmark: labels that come sooner for wrong answers than for right ones.

A prediction a second, a tenth of them wrong, each labelled after a delay. Streams begin with the
first prediction of all, so nothing is known of delays; a detector starts anew after an alarm. Bet
on is once as labels come, and once as gateways do it (`monitoring.ripening`): in the order of the
predictions, once those are complete or old. Then the same with twice as many errors from `CHANGE`
on, and how many predictions later that is seen; and with six times as many from `EARLY` on, when
the log is young. Alarms are counted without a tolerance, which is the hardest; a change is looked
for with the tolerance that ships.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring import LossDetector, LossReference
from monitoring.ripening import COMPLETE, YOUNG, Ripe, complete_until, counts_after, frontiers

Floats = NDArray[np.float64]
Rng = np.random.Generator

BUDGET = 10_000
STREAMS, MORE = 12, 60
ROWS, CHANGE = 20_000, 15_000
EARLY = 6_000
ERROR, WORSE, BAD = 0.1, 0.2, 0.6
TOLERANCE = 0.02  # as shipped
REFERENCE = 20_000
STEP = 32  # labels that come at once
LEARNT_EVERY, NEWEST = 30.0, 20_000  # as gateways do it
LINE = "{:<41} {:>8} {:>12} {:>8} {:>15} {:>8} {:>15} {:>8}"
Bet = Callable[[NDArray[np.int64], float, float, bool], None]  # places, now, share, evidence
Found = tuple[int, float]  # alarms, and the first one's predictions after a change


@dataclass(frozen=True)
class Course:
    """How labels come.

    Args:
        name: In the table.
        wrong: Mean seconds until the label of a wrong answer; exponential.
        right: Of a right one.
        fixed: Whether every label takes just the mean.
        coverage: The share of predictions that ever get a label.
        tides: Whether traffic swells and ebbs, by nine tenths, every 4,000 predictions.
    """

    name: str
    wrong: float
    right: float
    fixed: bool = False
    coverage: float = 1.0
    tides: bool = False


COURSES = (
    Course("at once", 0.0, 0.0),
    Course("all after 300 s on average", 300.0, 300.0),
    Course("the same, a third of all", 300.0, 300.0, coverage=0.33),
    Course("wrong after 100 s, right after 1,000 s", 100.0, 1_000.0, fixed=True),
    Course("the same on average", 100.0, 1_000.0),
    Course("the same, a third of all", 100.0, 1_000.0, coverage=0.33),
    Course("the same, traffic with tides", 100.0, 1_000.0, tides=True),
    Course("right after 100 s, wrong after 1,000 s", 1_000.0, 100.0),
)


def labels(
    rng: Rng, course: Course, change: int, rows: int, worse: float
) -> tuple[Floats, Floats, Floats]:
    """When each prediction was made, when its label comes (never: infinite), and its loss."""
    share = np.where(np.arange(rows) < change, ERROR, worse)
    lost = (rng.random(rows) < share).astype(np.float64)
    pace = 1.0 + 0.9 * np.sin(2 * np.pi * np.arange(rows) / 4_000) if course.tides else 1.0
    made = np.cumsum(rng.exponential(1.0, rows) * pace)
    mean = np.where(lost > 0, course.wrong, course.right)
    took = mean if course.fixed else rng.exponential(1.0, rows) * mean
    came = np.where(rng.random(rows) < course.coverage, made + took, math.inf)
    return made, came, lost


def as_they_come(_: Floats, came: Floats, __: Floats, bet: Bet, ___: float) -> None:
    """Bet on predictions in the order of their labels."""
    order = np.argsort(came, kind="stable")[: int(np.isfinite(came).sum())]
    for end in range(STEP, len(order) + 1, STEP):
        bet(order[end - STEP : end], float(came[order[end - 1]]), 1.0, True)


def behind_the_frontier(
    made: Floats, came: Floats, lost: Floats, bet: Bet, tolerance: float
) -> None:
    """Bet on predictions as gateways do it."""
    order = np.argsort(came, kind="stable")[: int(np.isfinite(came).sum())]
    waiting: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
    until, learnt = -1.0, -math.inf
    age: Ripe | None = None
    for end in range(STEP, len(order) + 1, STEP):
        now = float(came[order[end - 1]])
        waiting = np.sort(np.r_[waiting, order[end - STEP : end]])
        late = made[waiting] <= until
        bet(waiting[late], now, 1.0, age is not None and age.late)
        waiting = waiting[~late]
        if now - learnt >= LEARNT_EVERY:
            newest, learnt = order[max(0, end - NEWEST) : end][::-1], now
            took = came[newest] - made[newest]
            age = counts_after(took, lost[newest], now - made[0], tolerance)
        warm = age is not None and age.share > 0.0
        ahead, least = made > until, COMPLETE if warm else YOUNG
        settled = now - age.at if age is not None and not warm else -math.inf
        some = made[ahead], np.ones(ahead.sum()), made[ahead & (came <= now)]
        full = complete_until(*some, least, settled)
        for at, share in frontiers(full, age, now):
            ripe = made[waiting] <= at
            bet(waiting[ripe], now, share, True)
            waiting = waiting[~ripe]
            until = max(until, at)


WAYS = (as_they_come, behind_the_frontier)
SETTINGS = ((ROWS, 0.0), (CHANGE, TOLERANCE), (EARLY, TOLERANCE, EARLY + ROWS, BAD))


def count(
    course: int,
    way: int,
    stream: int,
    change: int,
    tolerance: float,
    rows: int = ROWS,
    worse: float = WORSE,
) -> Found:
    """Alarms of one stream before a change, and how soon it is seen."""
    rng = np.random.default_rng([7, course, stream])
    made, came, lost = labels(rng, COURSES[course], change, rows, worse)
    judged = LossReference(REFERENCE, float(rng.binomial(REFERENCE, ERROR)))
    detector = LossDetector(judged, BUDGET, tolerance)
    alarms: list[int] = []

    def bet(places: NDArray[np.int64], now: float, share: float, evidence: bool) -> None:
        detector.update(lost[places], share, bet=evidence)
        if detector.drift_detected:
            alarms.append(int(np.searchsorted(made, now)))
            detector.reset()

    WAYS[way](made, came, lost, bet, tolerance)
    later = [alarm - change for alarm in alarms if alarm > change]
    return sum(alarm <= change for alarm in alarms), min(later, default=math.inf)


def print_table(pool: Executor, full: bool) -> None:
    """Count and print."""
    streams = range(MORE if full else STREAMS)
    print(f"\nLabels that come sooner when wrong: a budget of {BUDGET:,}")
    counted = ("labels come", "promised", "as they come", "in order")
    seen_by = ("20 %: as come", "in order", "early 60 %: as", "in order")
    print(LINE.format(*counted, *seen_by))
    running: list[list[list[Future[Found]]]] = [
        [
            [pool.submit(count, place, way, stream, *setting) for stream in streams]
            for setting in SETTINGS
            for way in range(len(WAYS))
        ]
        for place in range(len(COURSES))
    ]
    for course, (come, order, *seen) in zip(COURSES, running, strict=True):
        promised = f"{len(streams) * ROWS * course.coverage / BUDGET:.0f}"
        alarms = [sum(one.result()[0] for one in found) for found in (come, order)]
        delays = [f"{statistics.median(one.result()[1] for one in found):,.0f}" for found in seen]
        print(LINE.format(course.name, promised, *alarms, *delays), flush=True)
