"""The guard when labels come late: up to three days after the answers, in simulated time.

    python -m benchmarks.rollback_delays [--seeds 200] [--processes 2]

Predictions come at an even pace, `DAY` a day. Their labels follow at random within so many hours,
or by what they say: of wrong answers at once (complaints), of right ones at the end. The guard is
fed at each look with what has come, in the order of prediction, as a gateway does.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.rollback_theory import (
    BUDGET,
    DAY,
    HEALTHY,
    PROMISED,
    TOLERANCE,
    drops,
    mistakes,
)
from monitoring.sequential import GuardDetector

Floats = NDArray[np.float64]
HOURS = (0.0, 1.0, 24.0, 72.0)  # that labels take at most
LOOK = 0.25  # hours between two looks
BEFORE = 1_000  # predictions before the drop


@dataclass(frozen=True)
class Late:
    """What became of drops, or of streams without one.

    Args:
        share: Of the streams that were rolled back, `PROMISED` labels after the drop at most.
        labels: From the drop to the rollback, in the middle.
        hours: Likewise.
        early: Rollbacks before the drop, which are false.
    """

    share: float
    labels: float
    hours: float
    early: int


def drill(rates: Floats, hours: float, seeds: int, *, biased: bool = False, wait: bool) -> Late:
    """Streams whose champion's error rate becomes `rates`, beside a standby that stays healthy.

    Args:
        rates: (n,) error rates from the drop on.
        hours: That labels take at most.
        seeds: How many streams.
        biased: Labels of the champion's wrong answers come at once, and all others at the end.
        wait: Labels count once their predictions are `hours` old (`label_delay_seconds`).
    """
    labels, spent, early = list[float](), list[float](), 0
    for seed in range(seeds):
        draw = np.random.default_rng([seed, int(hours * 60), biased])
        course = np.concatenate([np.full(BEFORE, HEALTHY), rates])
        ours, theirs = mistakes(draw, course), mistakes(draw, np.full(len(course), HEALTHY))
        asked = np.arange(len(course)) * 24.0 / DAY
        delay = np.where(ours > theirs, 0.0, hours) if biased else hours * draw.random(len(course))
        came = asked + (np.maximum(delay, hours) if wait else delay)
        found = _decided(ours - theirs, came)
        if found is None:
            continue
        at, fed = found
        if at < asked[BEFORE]:
            early += 1
            continue
        labels.append(float((fed >= BEFORE).sum()))
        spent.append(at - float(asked[BEFORE]))
    within = [one for one in labels if one <= PROMISED]
    middle = (float(np.median(labels)), float(np.median(spent))) if labels else (0.0, 0.0)
    return Late(len(within) / seeds, *middle, early)


def _decided(differences: Floats, came: Floats) -> tuple[float, NDArray[np.int64]] | None:
    """When the guard decides and which predictions it had the labels of; None: it does not."""
    guard, looks = GuardDetector(BUDGET, TOLERANCE), np.ceil(came / LOOK).astype(np.int64)
    order = np.lexsort((np.arange(len(came)), looks))
    ends = np.flatnonzero(np.diff(looks[order], append=looks.max() + 1)) + 1
    start = 0
    for end in ends.tolist():
        guard.update(differences[order[start:end]])
        if guard.drift_detected:
            return float(looks[order[end - 1]]) * LOOK, order[:end]
        start = end
    return None


def table(pool: ProcessPoolExecutor, seeds: int) -> list[tuple[str, float, Late]]:
    """Every kind of drop at every lateness: its name, the hours, what became of it."""
    asked = [
        (name, hours, pool.submit(drill, rates[: PROMISED + 500], hours, seeds, wait=False))
        for name, rates in drops()
        for hours in HOURS
    ]
    return [(name, hours, one.result()) for name, hours, one in asked]


def main() -> int:
    """Print the table; 1 where a kind of drop is found in fewer than 0.95 of the streams."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    with ProcessPoolExecutor(given.processes) as pool:
        found = table(pool, given.seeds)
    print(f"{'drop':<38}{'hours late':>11}{'share':>8}{'labels':>8}{'hours':>8}{'false':>7}")
    for name, hours, one in found:
        line = f"{name:<38}{hours:>11g}{one.share:>8.3f}{one.labels:>8.0f}{one.hours:>8.1f}"
        print(line + f"{one.early:>7}")
    return 0 if all(one.share >= 0.95 for _, _, one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
