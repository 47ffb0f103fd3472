"""What the drift benchmark feeds to every side: seeded streams whose change points are known.

Shapes: S streams, T rows (or labels) of each, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rng = np.random.Generator

FEATURES = 20
CODES = np.array([0.3, 0.2, 0.1, 0.1, 0.08, 0.07, 0.05, 0.04, 0.03, 0.03])
CODED = 16  # the first of four features that hold a code from 0 to 9
RAMP = 2_000  # rows (labels) over which a gradual change comes
PERIOD = 1_000  # rows (labels) of a recurring change: half of them changed, half as before


@dataclass(frozen=True)
class Change:
    """One kind of change.

    Args:
        name: In the table.
        draw: Of a generator, a length and how far the change has come (T,) in [0, 1]: T rows.
        course: How it comes: `abrupt`, `gradual` or `recurring`.
    """

    name: str
    draw: Callable[[Rng, Floats], Floats]
    course: str = "abrupt"

    def streams(self, seed: int, streams: int, before: int, after: int) -> Floats:
        """(S, before + after) labels or (S, before + after, F) rows; the change at `before`."""
        share = np.concatenate([np.zeros(before), course(self.course, after)])
        return np.stack(
            [self.draw(np.random.default_rng([seed, stream]), share) for stream in range(streams)]
        )


def course(kind: str, length: int) -> Floats:
    """How far a change has come at each of its rows, in [0, 1]."""
    rows = np.arange(length)
    if kind == "gradual":
        return np.minimum(rows / RAMP, 1.0)
    if kind == "recurring":
        return (rows % PERIOD < PERIOD // 2).astype(np.float64)
    return np.ones(length)


def errors(before: float, after: float) -> Callable[[Rng, Floats], Floats]:
    """0/1 errors whose rate goes from `before` to `after`."""
    return lambda rng, share: (rng.random(len(share)) < before + share * (after - before)).astype(
        np.float64
    )


def losses(before: float, after: float) -> Callable[[Rng, Floats], Floats]:
    """Losses between 0 and 1 (Beta, concentration 4) whose mean goes from `before` to `after`."""

    def draw(rng: Rng, share: Floats) -> Floats:
        mean = before + share * (after - before)
        return rng.beta(4 * mean, 4 * (1 - mean))

    return draw


def rows(rng: Rng, length: int, features: int = FEATURES) -> Floats:
    """Features that do not change: normal, log-normal, uniform and coded, three pairs at 0.8."""
    values = rng.normal(size=(length, features))
    for pair in range(0, min(6, features - 1), 2):
        values[:, pair + 1] = 0.8 * values[:, pair] + 0.6 * values[:, pair + 1]
    kind = np.arange(features) % FEATURES
    values[:, (kind >= 10) & (kind < 14)] = np.exp(values[:, (kind >= 10) & (kind < 14)])
    even, coded = (kind >= 14) & (kind < CODED), kind >= CODED
    values[:, even] = rng.random((length, int(even.sum())))
    values[:, coded] = rng.choice(10, (length, int(coded.sum())), p=CODES)
    return values


def shifted(features: list[int], by: float) -> Callable[[Rng, Floats], Floats]:
    """Some features move by so many standard deviations."""

    def draw(rng: Rng, share: Floats) -> Floats:
        values = rows(rng, len(share))
        values[:, features] += by * share[:, None]
        return values

    return draw


def spread(features: list[int], by: float) -> Callable[[Rng, Floats], Floats]:
    """The standard deviation of some features is multiplied."""

    def draw(rng: Rng, share: Floats) -> Floats:
        values = rows(rng, len(share))
        values[:, features] *= 1 + (by - 1) * share[:, None]
        return values

    return draw


def recoded(total_variation: float) -> Callable[[Rng, Floats], Floats]:
    """One category loses share to another; their codes lie seven apart."""

    def draw(rng: Rng, share: Floats) -> Floats:
        values = rows(rng, len(share))
        first = values[:, CODED] == 0
        moved = rng.random(len(share)) < share * total_variation / CODES[0]
        values[first & moved, CODED] = 7
        return values

    return draw


def prior(rng: Rng, share: Floats) -> Floats:
    """The share of one of two classes rises from 0.3 to 0.6; it moves five features by half."""
    values = rows(rng, len(share))
    values[:, :5] += 0.5 * (rng.random(len(share)) < 0.3 + 0.3 * share)[:, None]
    return values


def correlated(rng: Rng, length: int, features: int) -> Floats:
    """Features that all share one factor: pairwise correlation 0.64."""
    return 0.8 * rng.normal(size=(length, 1)) + 0.6 * rng.normal(size=(length, features))


LABELS = (
    Change("errors 10 to 15 %", errors(0.10, 0.15)),
    Change("errors 10 to 20 %", errors(0.10, 0.20)),
    Change("errors 10 to 30 %", errors(0.10, 0.30)),
    Change("errors 2 to 4 %", errors(0.02, 0.04)),
    Change("errors 10 to 30 %, gradual", errors(0.10, 0.30), "gradual"),
    Change("errors 10 to 20 %, recurring", errors(0.10, 0.20), "recurring"),
    Change("losses 0.20 to 0.30", losses(0.20, 0.30)),
)
INPUTS = (
    Change("one mean by 0.25 sd", shifted([0], 0.25)),
    Change("one mean by 1 sd", shifted([0], 1.0)),
    Change("five means by 0.5 sd", shifted(list(range(5)), 0.5)),
    Change("three spreads by 1.5", spread([0, 2, 4], 1.5)),
    Change("one category by 0.1", recoded(0.1)),
    Change("prior of a class", prior),
    Change("five means, gradual", shifted(list(range(5)), 0.5), "gradual"),
    Change("one mean by 1 sd, recurring", shifted([0], 1.0), "recurring"),
)
STILL_ERRORS = Change("errors of 10 %", errors(0.10, 0.10))
STILL_ROWS = Change("rows", lambda rng, share: rows(rng, len(share)))
