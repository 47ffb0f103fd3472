"""Part one of the drift benchmark: false alarms of our detectors where nothing changes.

Each setting draws a new reference for each stream and counts alarms, with a reset after each. The
promise holds where the 95 % upper limit (Poisson) of their number is within rows / budget, so a
setting needs at least three budgets of rows to show that even of a detector that never alarms.

The guard is counted twice. `same`: two versions that err as often, the ordinary case. `edge`: the
champion is worse by exactly what is tolerated. That is the worst that is no change, and so many
alarms are due to come of it that only hundreds of budgets can show that they stay within.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from benchmarks.drift_sides import loss_alarms, profile_of, watch
from benchmarks.drift_streams import correlated, rows
from monitoring import GuardDetector, InputDetector

REFERENCE = 1_000
STREAMS = 12  # among which the rows are divided, by default
FULL_STREAMS = 48  # with `--full`, to feed sixteen processes evenly
LEAST_OF_A_STREAM = 0.5  # of a budget, or fewer streams: a shorter one shows little but its start
BATCH = 256
AT_ONCE = 16  # labels that a guard gets
TOLERANCE = 0.02  # of the guard
DIFFERENCES = {"same": [0.04, 0.92, 0.04], "edge": [0.05, 0.92, 0.03]}  # odds of 1, 0 and -1
LINE = "{:<15} {:>9} {:>9} {:<12} {:>11} {:>11} {:>7} {:>12} {:>6}"


@dataclass(frozen=True)
class Amounts:
    """How many budgets of rows are watched, by the budget; one that is not named is not counted.

    Args:
        detector: Which.
        kinds: What it watches, each by itself.
        features: Of its rows; 0: it watches labels.
        quick: By default.
        full: With `--full`.
    """

    detector: str
    kinds: tuple[str, ...]
    features: int
    quick: Mapping[int, int]
    full: Mapping[int, int]


ROWS = {10_000: 24, 100_000: 18, 1_000_000: 12}
LABELS = {10_000: 60, 100_000: 60, 1_000_000: 60}
BOTH = ("independent", "correlated")
AMOUNTS = (
    Amounts("LossDetector", ("errors", "losses"), 0, {10_000: 24, 100_000: 24}, LABELS),
    Amounts("GuardDetector", ("same",), 0, {10_000: 24}, LABELS),
    Amounts("GuardDetector", ("edge",), 0, {10_000: 60}, {10_000: 1_500, 100_000: 600}),
    Amounts("InputDetector", ("independent",), 1, {10_000: 6, 100_000: 6}, ROWS),
    Amounts("InputDetector", BOTH, 20, {10_000: 6, 100_000: 6}, ROWS),
    # A million rows of 200 features take minutes: eight budgets of them are what an hour allows.
    Amounts("InputDetector", BOTH, 200, {10_000: 6}, ROWS | {1_000_000: 8}),
)


@dataclass(frozen=True)
class Setting:
    """What is counted: which detector, what it promised, what it watches and how much of it."""

    detector: str
    budget: int
    features: int = 0
    kind: str = ""
    budgets: int = 6  # of rows (labels), over all streams
    streams: int = STREAMS

    @property
    def rows(self) -> int:
        """Rows (labels) of each stream, in whole batches."""
        return -(-self.budgets * self.budget // self.streams // BATCH) * BATCH


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
    for budget in ROWS:
        for one in AMOUNTS:
            budgets = (one.full if full else one.quick).get(budget, 0)
            most = FULL_STREAMS if full else STREAMS
            streams = min(most, int(budgets / LEAST_OF_A_STREAM))
            for kind in one.kinds if budgets else ():
                yield Setting(one.detector, budget, one.features, kind, budgets, streams)


def count(setting: Setting, stream: int) -> int:
    """Alarms of one stream of a setting."""
    rng = np.random.default_rng([setting.budget, setting.features, stream, *setting.kind.encode()])
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
    """By paired differences whose mean is 0 or what is tolerated."""
    detector, found = GuardDetector(setting.budget, TOLERANCE), 0
    for _ in range(setting.rows // AT_ONCE):
        detector.update(rng.choice([1.0, 0.0, -1.0], AT_ONCE, p=DIFFERENCES[setting.kind]))
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
        (one, [pool.submit(count, one, stream) for stream in range(one.streams)])
        for one in settings(full)
    ]
    kept = True
    for one, futures in running:
        found = Count(one.rows * one.streams, sum(future.result() for future in futures))
        verdict = found.verdict(one.budget)
        kept &= verdict != "BROKEN"
        shown = (f"{one.budget:,}", one.features or "", one.kind, f"{found.rows:,}")
        limits = (f"{found.rows / one.budget:.1f}", found.alarms, f"{found.upper:.1f}")
        print(LINE.format(one.detector, *shown, *limits, verdict), flush=True)
    return kept
