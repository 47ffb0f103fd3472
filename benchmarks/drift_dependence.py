"""Part of the drift benchmark: rows that are alike because they are near in time.

Streams are Gaussian AR(1) whose every row is standard normal; errors are the lowest tenth of one.
Nothing changes, so each alarm is false. Beside thinning by `monitoring.dependence` stand the same
detectors where every row is bet on.
"""

from __future__ import annotations

from concurrent.futures import Executor, Future

import numpy as np
from scipy.signal import lfilter
from scipy.stats import norm

from homeostat.schema import Feature
from monitoring import InputDetector, LossDetector, LossReference, Profile
from monitoring.dependence import Spacing
from monitoring.evidence import Floats

COEFFICIENTS = (0.0, 0.5, 0.8, 0.95)
BUDGET = 10_000
STREAMS, ROWS, BATCH = 12, 20_000, 64
COLUMNS = 5
ERROR = 0.1
LINE = "{:<13} {:>5} {:>10} {:>9} {:>8} {:>5} {:>12} {:>10}"
Found = tuple[int, int, int]  # alarms, those in the first 200 rows, and the gap at the end


def print_table(pool: Executor) -> None:
    """Count and print."""
    print(
        f"\nFalse alarms of rows that are alike, a budget of {BUDGET:,}; {STREAMS} streams of AR(1)"
    )
    head = ("detector", "AR(1)", "rows", "promised", "thinned", "gap", "in first 200", "every row")
    print(LINE.format(*head))
    kinds = {"LossDetector": losses, "InputDetector": inputs}
    running: list[tuple[str, float, list[Future[Found]], list[Future[Found]]]] = [
        (
            name,
            phi,
            [pool.submit(count, phi, stream, True) for stream in range(STREAMS)],
            [pool.submit(count, phi, stream, False) for stream in range(STREAMS)],
        )
        for name, count in kinds.items()
        for phi in COEFFICIENTS
    ]
    for name, phi, thin, plain in running:
        thinned, early, gaps = np.sum([one.result() for one in thin], axis=0)
        every = sum(one.result()[0] for one in plain)
        rows = STREAMS * ROWS
        promised, gap = f"{rows / BUDGET:.0f}", f"{gaps / STREAMS:.0f}"
        print(LINE.format(name, phi, f"{rows:,}", promised, thinned, gap, early, every), flush=True)


def losses(phi: float, stream: int, thin: bool) -> Found:
    """One stream of errors."""
    rng = np.random.default_rng([1, int(100 * phi), stream])
    detector = LossDetector(LossReference(2_000, 2_000 * ERROR), BUDGET, 0.02)
    if not thin:
        detector.spacing = Every()
    errors = (alike(rng, ROWS, 1, phi)[:, 0] < norm.ppf(ERROR)).astype(np.float64)
    alarms = []
    for start in range(0, ROWS, BATCH):
        detector.update(errors[start : start + BATCH])
        if detector.drift_detected:
            alarms.append(start)
            detector.reset()
    return len(alarms), sum(start < 200 for start in alarms), detector.spacing.gap


def inputs(phi: float, stream: int, thin: bool) -> Found:
    """One stream of rows, against a reference of 4,000 independent ones."""
    rng = np.random.default_rng([2, int(100 * phi), stream])
    reference, still = rng.normal(size=(4_000, COLUMNS)), np.zeros(4_000)
    features = [Feature(f"f{i}") for i in range(COLUMNS)]
    profile = Profile.from_reference(features, "classification", reference, still, still, still)
    detector = InputDetector(profile, BUDGET, 0.0)
    spacing = Spacing(COLUMNS) if thin else Every(COLUMNS)
    rows, alarms = alike(rng, ROWS, COLUMNS, phi), []
    for start in range(0, ROWS, BATCH):
        batch = rows[start : start + BATCH]
        kept = batch[spacing.keep(batch)]
        detector.update(kept, np.zeros(len(kept)), np.zeros(len(kept)))
        if detector.drift_detected:
            alarms.append(start)
            detector.reset()
    return len(alarms), sum(start < 200 for start in alarms), spacing.gap


class Every(Spacing):
    """Bets on every row, as if all were independent."""

    def _judge(self) -> int:
        return 1


def alike(rng: np.random.Generator, n: int, columns: int, phi: float) -> Floats:
    """Rows (n, columns) of a Gaussian AR(1) of coefficient phi; each is standard normal."""
    noise = rng.normal(size=(n + 300, columns)) * np.sqrt(1.0 - phi * phi)
    return np.asarray(lfilter([1.0], [1.0, -phi], noise, axis=0)[300:])
