"""What the drift benchmark feeds to every side: seeded streams whose change points are known.

Shapes: S streams, T rows (or labels) of each, F features.
"""

from __future__ import annotations

import math
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
PREDICTED, CONFIDENCE = 20, 21  # columns of what a model of three classes makes of the first six
WEIGHTS = np.random.default_rng(5).normal(size=(6, 3))
PAIRS = np.kron(np.eye(3), np.array([[1.0, 0.8], [0.8, 1.0]]))  # covariance of the first six
PERIOD = 1_000  # rows (labels) of a recurring change: half of them changed, half as before


@dataclass(frozen=True)
class Change:
    """One kind of change.

    Args:
        name: In the table.
        draw: Of a generator, a length and how far the change has come (T,) in [0, 1]: T rows.
        course: How it comes: `abrupt`, `gradual` or `recurring`.
        divergence: KL of one row (label) after from before, in nats, where it is known.
        likelihood: Of (..., T) labels or (..., T, F) rows: the log of how much more likely each
            is after than before, (..., T); None where it is not known.
    """

    name: str
    draw: Callable[[Rng, Floats], Floats]
    course: str = "abrupt"
    divergence: float = math.nan
    likelihood: Callable[[Floats], Floats] | None = None

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


def rotated(rng: Rng, share: Floats) -> Floats:
    """The correlations of three pairs go from 0.8 to -0.8; each feature by itself stays."""
    values = rows(rng, len(share))
    for pair in (0, 2, 4):
        values[:, pair + 1] -= 1.6 * share * values[:, pair]
    return values


def answered(draw: Callable[[Rng, Floats], Floats]) -> Callable[[Rng, Floats], Floats]:
    """Rows with the class that a model predicts for them, and its confidence."""

    def with_outputs(rng: Rng, share: Floats) -> Floats:
        values = draw(rng, share)
        scores = np.exp(values[:, :6] @ WEIGHTS)
        outputs = np.column_stack([scores.argmax(1), scores.max(1) / scores.sum(1)])
        return np.hstack([values, outputs])

    return with_outputs


def answered_otherwise(rng: Rng, share: Floats) -> Floats:
    """A tenth of all predictions goes from the first class to the second; the rows stay."""
    values = answered(still_rows)(rng, share)
    classes = values[:, PREDICTED]
    first = (classes == 0).mean()
    classes[(classes == 0) & (rng.random(len(share)) < share * 0.1 / first)] = 1
    return values


def less_sure(rng: Rng, share: Floats) -> Floats:
    """Confidence falls by a quarter of its distance from one third; the rows stay."""
    values = answered(still_rows)(rng, share)
    values[:, CONFIDENCE] -= 0.25 * share * (values[:, CONFIDENCE] - 1 / 3)
    return values


def still_rows(rng: Rng, share: Floats) -> Floats:
    """Rows that do not change."""
    return rows(rng, len(share))


def of_errors(before: float, after: float) -> float:
    """Divergence of one 0/1 error, in nats."""
    divergence = after * math.log(after / before)
    return divergence + (1 - after) * math.log((1 - after) / (1 - before))


def odds_of_errors(before: float, after: float) -> Callable[[Floats], Floats]:
    """The log likelihood ratio of each 0/1 error."""
    gained, lost = math.log(after / before), math.log((1 - after) / (1 - before))
    return lambda labels: np.where(labels > 0, gained, lost)


def odds_of_losses(before: float, after: float) -> Callable[[Floats], Floats]:
    """The log likelihood ratio of each loss that `losses` draws."""
    normaliser = sum(
        sign * (math.lgamma(4 * mean) + math.lgamma(4 * (1 - mean)))
        for sign, mean in ((1, before), (-1, after))
    )
    tilt = 4 * (after - before)
    return lambda labels: normaliser + tilt * (np.log(labels) - np.log1p(-labels))


def odds_of_normals(mean: Floats, after: Floats) -> Callable[[Floats], Floats]:
    """The log likelihood ratio of each row: its first six features get this mean and covariance."""
    known, new = np.linalg.inv(PAIRS), np.linalg.inv(after)
    wider = (np.linalg.slogdet(PAIRS)[1] - np.linalg.slogdet(after)[1]) / 2

    def odds(rows: Floats) -> Floats:
        values = rows[..., :6]
        then = np.einsum("...i,ij,...j->...", values, known, values)
        now = np.einsum("...i,ij,...j->...", values - mean, new, values - mean)
        return np.asarray(wider + (then - now) / 2)

    return odds


def of_normals(mean: Floats, after: Floats) -> float:
    """Divergence of the first six features with this mean and covariance from their own."""
    known = np.linalg.inv(PAIRS)
    spread = np.trace(known @ after) - 6 + np.linalg.slogdet(PAIRS)[1] - np.linalg.slogdet(after)[1]
    return float(mean @ known @ mean + spread) / 2


def by_sd(features: list[int], by: float) -> Floats:
    """The mean of the first six features once some of them moved by so many standard deviations."""
    mean = np.zeros(6)
    mean[features] = by
    return mean


def odds_of_codes(rows: Floats) -> Floats:
    """The log likelihood ratio of each row whose first code loses a third to the eighth."""
    ratios = np.zeros(len(CODES))
    ratios[[0, 7]] = math.log(0.2 / 0.3), math.log(0.14 / 0.04)
    return ratios[rows[..., CODED].astype(np.int64)]


def correlated(rng: Rng, length: int, features: int) -> Floats:
    """Features that all share one factor: pairwise correlation 0.64."""
    return 0.8 * rng.normal(size=(length, 1)) + 0.6 * rng.normal(size=(length, features))


_WIDER = np.diag([1.5, 1.0, 1.5, 1.0, 1.5, 1.0])
_TURNED = np.kron(np.eye(3), np.array([[1.0, -0.8], [-0.8, 1.0]]))
_RECODED = 0.2 * math.log(0.2 / 0.3) + 0.14 * math.log(0.14 / 0.04)


def _errors(before: float, after: float) -> Change:
    known = of_errors(before, after), odds_of_errors(before, after)
    name = f"errors {100 * before:.0f} to {100 * after:.0f} %"
    return Change(name, errors(before, after), "abrupt", *known)


def _normals(
    name: str, draw: Callable[[Rng, Floats], Floats], mean: Floats, after: Floats
) -> Change:
    known = of_normals(mean, after), odds_of_normals(mean, after)
    return Change(name, answered(draw), "abrupt", *known)


def _means(name: str, features: list[int], by: float) -> Change:
    return _normals(name, shifted(features, by), by_sd(features, by), PAIRS)


LABELS = (
    _errors(0.10, 0.15),
    _errors(0.10, 0.20),
    _errors(0.10, 0.30),
    _errors(0.02, 0.04),
    Change("errors 10 to 30 %, gradual", errors(0.10, 0.30), "gradual"),
    Change("errors 10 to 20 %, recurring", errors(0.10, 0.20), "recurring"),
    Change("losses 0.20 to 0.30", losses(0.20, 0.30), likelihood=odds_of_losses(0.20, 0.30)),
)
INPUTS = (
    _means("one mean by 0.25 sd", [0], 0.25),
    _means("one mean by 1 sd", [0], 1.0),
    _means("five means by 0.5 sd", list(range(5)), 0.5),
    _normals("three spreads by 1.5", spread([0, 2, 4], 1.5), np.zeros(6), _WIDER @ PAIRS @ _WIDER),
    Change("one category by 0.1", answered(recoded(0.1)), "abrupt", _RECODED, odds_of_codes),
    Change("prior of a class", answered(prior)),
    Change("predicted class by 0.1", answered_otherwise),
    Change("confidence falls", less_sure),
    _normals("rotation", rotated, np.zeros(6), _TURNED),
    Change("five means, gradual", answered(shifted(list(range(5)), 0.5)), "gradual"),
    Change("one mean by 1 sd, recurring", answered(shifted([0], 1.0)), "recurring"),
)
CONCEPT = Change("concept only", answered(still_rows))  # the rows say nothing of it
STILL_ERRORS = Change("errors of 10 %", errors(0.10, 0.10))
STILL_ROWS = Change("rows", answered(still_rows))
