"""Part one of the drift benchmark: false alarms of our detectors where nothing changes.

Each setting draws a new reference for each stream and counts alarms, with a reset after each. The
promise holds where the 95 % upper limit (Poisson) of their number is within rows / budget, so a
setting needs at least three budgets of rows to show that even of a detector that never alarms.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from benchmarks.drift_sides import loss_alarms, profile_of, watch
from benchmarks.drift_streams import correlated, rows
from monitoring import GuardDetector, InputDetector

REFERENCE = 1_000
STREAMS = 12
BUDGETS_OF_ROWS = 6.0
BUDGETS_OF_LABELS = 24.0  # about half of what is promised comes: the limit needs more of them
BUDGETS_AT_THE_EDGE = 60.0  # where alarms are meant to come almost as often as promised
BATCH = 256
LINE = "{:<15} {:>9} {:>9} {:<12} {:>10} {:>11} {:>7} {:>12} {:>6}"


@dataclass(frozen=True)
class Setting:
    """What is counted: which detector, what it promised, and what it watches."""

    detector: str
    budget: int
    features: int = 0
    kind: str = ""

    @property
    def rows(self) -> int:
        """Rows (labels) of each stream, in whole batches."""
        spent = {"GuardDetector": BUDGETS_AT_THE_EDGE, "LossDetector": BUDGETS_OF_LABELS}
        budgets = spent.get(self.detector, BUDGETS_OF_ROWS)
        return -(-int(budgets * self.budget / STREAMS) // BATCH) * BATCH


@dataclass(frozen=True)
class Count:
    """Alarms in so many rows that did not change."""

    rows: int
    alarms: int

    @property
    def upper(self) -> float:
        """The 95 % upper confidence limit of the expected number of alarms."""
        return upper_limit(self.alarms)

    def verdict(self, budget: int) -> str:
        """Whether the promise was kept, by the limit; or only by the count; or not."""
        if self.upper <= self.rows / budget:
            return "kept"
        return "unsure" if self.alarms <= self.rows / budget else "BROKEN"


def upper_limit(alarms: int) -> float:
    """The 95 % upper confidence limit (Poisson) of an expected number."""
    return float(chi2.ppf(0.95, 2 * (alarms + 1)) / 2)


def settings(full: bool) -> Iterator[Setting]:
    """What is counted, the short ones first."""
    budgets = (10_000, 100_000, 1_000_000) if full else (10_000, 100_000)
    for budget in budgets:
        yield Setting("LossDetector", budget, kind="errors")
        yield Setting("LossDetector", budget, kind="losses")
        if budget <= (100_000 if full else 10_000):
            yield Setting("GuardDetector", budget, kind="edge")
        for features in (1, 20, 200):
            large = features * budget > (200_000_000 if full else 2_000_000)
            for kind in ("independent", "correlated")[: 1 if features == 1 else 2]:
                if not large:
                    yield Setting("InputDetector", budget, features, kind)


def count(setting: Setting, stream: int) -> int:
    """Alarms of one stream of a setting."""
    rng = np.random.default_rng([setting.budget, setting.features, len(setting.kind), stream])
    if setting.detector == "InputDetector":
        return _count_inputs(setting, rng)
    if setting.detector == "GuardDetector":
        return _count_guard(setting, rng)
    length = REFERENCE + setting.rows
    losses = rng.random(length) < 0.1 if setting.kind == "errors" else rng.beta(0.8, 3.2, length)
    return len(loss_alarms(losses.astype(np.float64), REFERENCE, setting.budget))


def _count_inputs(setting: Setting, rng: np.random.Generator) -> int:
    draw = rows if setting.kind == "independent" else correlated
    coded = [i for i in range(setting.features) if draw is rows and i % 20 >= 16]
    profile = profile_of(draw(rng, REFERENCE, setting.features), coded)
    detector = InputDetector(profile, setting.budget, 0.0)
    found = 0
    for _ in range(setting.rows // BATCH):
        found += len(watch(detector, draw(rng, BATCH, setting.features), BATCH))
    return found


def _count_guard(setting: Setting, rng: np.random.Generator) -> int:
    """The champion is worse than its standby by exactly what is tolerated."""
    detector, found = GuardDetector(setting.budget, 0.02), 0
    for _ in range(setting.rows // 16):
        detector.update(rng.choice([1.0, 0.0, -1.0], 16, p=[0.05, 0.92, 0.03]))
        if detector.drift_detected:
            found += 1
            detector.reset()
    return found


def print_table(pool: Executor, full: bool) -> bool:
    """Count and print; whether every promise was kept."""
    print(f"\nFalse alarms where nothing changes; a reference of {REFERENCE:,} rows, tolerance 0")
    head = ("detector", "budget", "features", "", "rows", "promised", "alarms", "95 % upper", "")
    print(LINE.format(*head))
    running: list[tuple[Setting, list[Future[int]]]] = [
        (one, [pool.submit(count, one, stream) for stream in range(STREAMS)])
        for one in settings(full)
    ]
    kept = True
    for one, futures in running:
        found = Count(one.rows * STREAMS, sum(future.result() for future in futures))
        verdict = found.verdict(one.budget)
        kept &= verdict != "BROKEN"
        shown = (f"{one.budget:,}", one.features or "", one.kind, f"{found.rows:,}")
        limits = (f"{found.rows / one.budget:.1f}", found.alarms, f"{found.upper:.1f}")
        print(LINE.format(one.detector, *shown, *limits, verdict), flush=True)
    return kept
