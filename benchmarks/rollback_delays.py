"""The guard when labels come late: up to three days after the answers, in simulated time.

    python -m benchmarks.rollback_delays [--seeds 200] [--processes 2]

Predictions come at an even pace, `DAY` a day. Their labels follow at random within so many hours,
or by what they say: of wrong answers at once (complaints), of right ones at the end. At each look
the guard is fed what may count of what has come, as a gateway does: behind the frontier of
`monitoring.ripening`, with delays learnt from a log of `KNOWN` labels before, or by what a policy
states (`label_delay_seconds`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
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
from monitoring.ripening import COMPLETE, YOUNG, Ripe, complete_until, counts_after, frontiers
from monitoring.sequential import GuardDetector

Floats = NDArray[np.float64]
HOURS = (0.0, 1.0, 24.0, 72.0)  # that labels take at most
LOOK = 0.25  # hours between two looks
BEFORE = 1_000  # predictions before the drop
AFTER = 3_000  # predictions while the labels of `PROMISED` come
KNOWN = 20_000  # labels of the log before
HOUR = 3_600.0
Fed = Iterator[tuple[float, NDArray[np.int64]]]  # a look's hour, and the places that count then


@dataclass(frozen=True)
class Late:
    """What became of drops, or of streams without one.

    Args:
        share: Of the streams that were rolled back, `PROMISED` labels after the drop at most.
        labels: That came from the drop to the rollback, those that waited too; in the middle.
        hours: Likewise.
        early: Rollbacks before the drop, which are false.
    """

    share: float
    labels: float
    hours: float
    early: int


def drill(
    rates: Floats, hours: float, seeds: int, *, biased: bool = False, stated: float | None = None
) -> Late:
    """Streams whose champion's error rate becomes `rates`, beside a standby that stays healthy.

    Args:
        rates: (n,) error rates from the drop on.
        hours: That labels take at most.
        seeds: How many streams.
        biased: Labels of the champion's wrong answers come at once, and all others at the end.
        stated: The age in hours from which labels count by the policy; None: as the log has it.
    """
    labels, spent, early = list[float](), list[float](), 0
    for seed in range(seeds):
        draw = np.random.default_rng([seed, int(hours * 60), biased])
        course = np.concatenate([np.full(BEFORE, HEALTHY), rates])
        ours, theirs = mistakes(draw, course), mistakes(draw, np.full(len(course), HEALTHY))
        asked = np.arange(len(course)) * 24.0 / DAY
        came = np.ceil((asked + _delays(draw, ours > theirs, hours, biased)) / LOOK) * LOOK
        if stated is None:
            fed = _ripened(asked, came, _age(draw, hours, biased))
        else:
            fed = _matured(asked, came, stated)
        at = _decided(ours - theirs, asked, fed)
        if at is None:
            continue
        if at < asked[BEFORE]:
            early += 1
            continue
        labels.append(float((came[BEFORE:] <= at).sum()))
        spent.append(at - float(asked[BEFORE]))
    within = [one for one in labels if one <= PROMISED]
    middle = (float(np.median(labels)), float(np.median(spent))) if labels else (0.0, 0.0)
    return Late(len(within) / seeds, *middle, early)


def _delays(
    draw: np.random.Generator, wrong: NDArray[np.bool_], hours: float, biased: bool
) -> Floats:
    """Hours that labels take."""
    return np.where(wrong, 0.0, hours) if biased else hours * draw.random(len(wrong))


def _age(draw: np.random.Generator, hours: float, biased: bool) -> Ripe | None:
    """The age from which on labels count, by those of the log before."""
    wrong = mistakes(draw, np.full(KNOWN, HEALTHY))
    took = HOUR * _delays(draw, wrong > 0, hours, biased)
    return counts_after(took, wrong, KNOWN / DAY * 24.0 * HOUR, TOLERANCE)


def _matured(asked: Floats, came: Floats, stated: float) -> Fed:
    """What counts at each look where its age is stated."""
    looks = np.maximum(came, np.ceil((asked + stated) / LOOK) * LOOK)
    for now in np.unique(looks).tolist():
        yield now, np.flatnonzero(looks == now)


def _ripened(asked: Floats, came: Floats, age: Ripe | None) -> Fed:
    """What counts at each look behind the frontier."""
    waits, until = np.ones(len(asked), dtype=np.bool_), -1.0
    for now in np.unique(came).tolist():
        there = came <= now
        late = waits & there & (asked <= until)
        waits &= ~late
        if age is not None and age.late and late.any():
            yield now, np.flatnonzero(late)
        ahead = (asked > until) & (asked <= now)
        least = COMPLETE if age else YOUNG
        made = HOUR * asked[ahead]
        full = complete_until(made, np.ones(len(made)), HOUR * asked[ahead & there], least)
        for at, _ in frontiers(full, age, HOUR * now):
            ripe = waits & there & (HOUR * asked <= at)
            waits &= ~ripe
            until = max(until, at / HOUR)
            yield now, np.flatnonzero(ripe)


def _decided(differences: Floats, asked: Floats, fed: Fed) -> float | None:
    """The hour at which the guard decides; None: it does not."""
    guard = GuardDetector(BUDGET, TOLERANCE)
    for now, places in fed:
        guard.update(differences[places], HOUR * asked[places])
        if guard.drift_detected:
            return now
    return None


def table(pool: ProcessPoolExecutor, seeds: int) -> list[tuple[str, float, Late]]:
    """Every kind of drop at every lateness: its name, the hours, what became of it."""
    asked = [
        (name, hours, pool.submit(drill, rates[: PROMISED + AFTER], hours, seeds))
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
