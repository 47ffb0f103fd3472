"""The fixed bets of a profile's columns: what a change could look like.

For each column: location up and down, spread up and down (both in normal scores of the bins),
and each bin's share up and down, at several strengths beyond the tolerance. What a bet costs, so
that it is fair, is reckoned as rows come (`monitoring.stakes`); of the reference alone there is
only a limit on it, at which all bets of a profile hold together for at least 99 of 100 references
(a union bound).

Shapes: B bins, M bets of a column, J bets of all columns.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from monitoring.bets import Floats, highest_mean, robust_bet, total_variation
from monitoring.columns import Column
from monitoring.losses import MISLED

ADAPTIVE_WEIGHT = 0.2  # of a column's evidence, for the bet that learns
_SHIFT_WEIGHT, _SPREAD_WEIGHT, _BIN_WEIGHT = 0.4, 0.15, 0.25
_BEYOND_TILT = (0.05, 0.1, 0.2, 0.4)  # total variation beyond the tolerance
_BEYOND_BIN = (0.04, 0.1, 0.25, 0.6)  # share beyond the tolerance
_LIMITS = 100  # confidence limits taken of one column, at most: two a bin, one a tilt, one ball
_STRONGEST = 0.97
_HALVINGS = 40


@dataclass(frozen=True)
class Portfolio:
    """All fixed bets.

    Args:
        factors: (J, B) what each bin pays, before the price; 1 in bins that a column has not.
        owner: (J,) index of the column.
        weight: (J,) of the bet in its column's evidence.
        limit: (J,) the largest mean of the factors that the reference allows.
    """

    factors: Floats
    owner: NDArray[np.int64]
    weight: Floats
    limit: Floats

    @classmethod
    def of(cls, columns: Sequence[Column], counts: Floats, tolerance: float) -> Portfolio:
        """The bets for columns with reference `counts` (C, B); designed once for each reference.

        The design takes a second for 64 columns, and a version that becomes champion again, or
        was prepared before its traffic came, must not wait for it.
        """
        return _designed(tuple(columns), counts.shape, counts.tobytes(), tolerance)


@functools.lru_cache(maxsize=32)
def _designed(
    columns: tuple[Column, ...], shape: tuple[int, int], content: bytes, tolerance: float
) -> Portfolio:
    counts = np.frombuffer(content, np.float64).reshape(shape)
    confidence = log_confidence(len(columns))
    factors, owner, weight, limit = [np.zeros((0, shape[1]))], [], [], [np.zeros(0)]
    for index, column in enumerate(columns):
        filled = counts[index, : column.width]
        for share, bets in _bets(column, filled, tolerance):
            table = np.ones((len(bets), shape[1]))
            table[:, : column.width] = bets
            factors.append(table)
            owner += [index] * len(bets)
            weight += [share / len(bets)] * len(bets)
            limit.append(highest_mean(bets, filled, confidence))
    parts = (
        np.concatenate(factors),
        np.array(owner, np.int64),
        np.array(weight, np.float64),
        np.concatenate(limit),
    )
    for part in parts:
        part.flags.writeable = False  # several detectors share it
    return Portfolio(*parts)


def log_confidence(columns: int) -> float:
    """ln(1 / error rate) of one confidence limit, so that all of a profile's hold together."""
    return math.log(columns * _LIMITS / MISLED)


def reference_radius(sizes: Floats, widths: NDArray[np.int64]) -> Floats:
    """Total variation between a sample's frequencies and their truth, at the confidence limit.

    Its mean is at most sqrt((B - 1) / n) / 2 (Cauchy-Schwarz) and it exceeds that by more than
    sqrt(ln(1 / error rate) / 2n) with at most that error rate (McDiarmid 1989).

    Args:
        sizes: (C,) rows behind each column.
        widths: (C,) bins of each column.
    """
    n = np.maximum(sizes, 1.0)
    limit = np.sqrt(log_confidence(len(sizes)) / (2 * n))
    return np.asarray(np.where(sizes > 0, np.sqrt((widths - 1) / n) / 2 + limit, 1.0))


def _bets(column: Column, counts: Floats, tolerance: float) -> list[tuple[float, Floats]]:
    """Groups of bets (M, B), each with its weight in the column; a weight is never lost."""
    if not counts.sum():
        return []
    groups = []
    smooth = (counts + 0.5) / (counts + 0.5).sum()
    if column.kind == "numeric" and column.width > 2:
        place, spread = _scores(smooth)
        for weight, score in ((_SHIFT_WEIGHT, place), (_SPREAD_WEIGHT, spread)):
            groups.append((weight, _tilts(smooth, score, tolerance)))
    groups.append((_BIN_WEIGHT, _single_bins(smooth, tolerance)))
    kept = [(weight, bets) for weight, bets in groups if len(bets)]
    total = sum(weight for weight, _ in kept) or 1.0
    return [(weight / total * (1 - ADAPTIVE_WEIGHT), bets) for weight, bets in kept]


def _scores(smooth: Floats) -> tuple[Floats, Floats]:
    """Normal scores of the value bins, and their squares; 0 for the missing bin."""
    values = smooth[:-1] / smooth[:-1].sum()
    ranks = values.cumsum() - values / 2
    scores = np.array([NormalDist().inv_cdf(float(rank)) for rank in ranks])
    return np.append(scores, 0.0), np.append(scores**2 - values @ scores**2, 0.0)


def _tilts(smooth: Floats, score: Floats, tolerance: float) -> Floats:
    """Bets on reference * exp(theta * score), theta of both signs, each at a set distance."""
    targets = np.array([tolerance + beyond for beyond in _BEYOND_TILT])
    targets = np.concatenate([targets, targets])
    signs = np.repeat([1.0, -1.0], len(_BEYOND_TILT))
    low, high = np.zeros(len(targets)), np.full(len(targets), 30.0)
    for _ in range(_HALVINGS):
        theta = (low + high) / 2
        near = total_variation(_tilted(smooth, score, signs * theta), smooth) < targets
        low, high = np.where(near, theta, low), np.where(near, high, theta)
    after = _tilted(smooth, score, signs * high)
    reached = total_variation(after, smooth) >= targets - 1e-9
    if not reached.any():
        return np.zeros((0, len(smooth)))
    after = 0.98 * after[reached] + 0.02 * smooth  # no bin may ruin a bet for good
    return robust_bet(after, np.broadcast_to(smooth, after.shape), tolerance)


def _tilted(smooth: Floats, score: Floats, theta: Floats) -> Floats:
    logs = np.log(smooth) + theta[:, None] * score
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _single_bins(smooth: Floats, tolerance: float) -> Floats:
    """Likelihood ratios on one bin's share, up and down, against what the tolerance allows."""
    bets = []
    for sign in (1.0, -1.0):
        for index, bound in enumerate(np.clip(smooth + sign * tolerance, 0.0, 1.0)):
            for beyond in _BEYOND_BIN:
                share = bound + sign * beyond
                if 1 - _STRONGEST <= share <= _STRONGEST:
                    factors = np.full(len(smooth), (1 - share) / (1 - bound))
                    factors[index] = share / bound
                    bets.append(factors)
    return np.array(bets).reshape(len(bets), len(smooth))
