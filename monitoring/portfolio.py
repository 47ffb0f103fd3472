"""The fixed bets of a profile's columns: what a change could look like, priced fairly.

For each column: location up and down, spread up and down (both in normal scores of the bins),
and each bin's share up and down, at several strengths *beyond* what counts as unchanged. Every
bet is fair for all distributions within the tolerance of every reference distribution that the
counts allow. All these limits hold together for at least 99 of 100 references (a union bound).

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

from monitoring.bets import Floats, fair, lower_bound, robust_bet, total_variation, upper_bound
from monitoring.columns import Column
from monitoring.losses import MISLED

ADAPTIVE_WEIGHT = 0.2  # of a column's evidence, for the bet that learns
_SHIFT_WEIGHT, _SPREAD_WEIGHT, _BIN_WEIGHT = 0.4, 0.15, 0.25
_BEYOND_TILT = (0.06, 0.16, 0.3, 0.5)  # total variation beyond the radius
_BEYOND_BIN = (0.1, 0.3, 0.6)  # share beyond the bound
_LIMITS = 100  # confidence limits taken of one column, at most: two a bin, one a tilt, one ball
_STRONGEST = 0.97
_HALVINGS = 40
_NOISE = 0.2  # variance of a tilt's factors, relative to their range: only the design uses it


@dataclass(frozen=True)
class Portfolio:
    """All fixed bets.

    Args:
        logs: (J, B) log factors; 0 in bins that a column has not.
        owner: (J,) index of the column.
        weight: (J,) of the bet in its column's evidence.
    """

    logs: Floats
    owner: NDArray[np.int64]
    weight: Floats

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
    logs, owner, weight = [np.zeros((0, shape[1]))], [], []
    for index, column in enumerate(columns):
        filled = counts[index, : column.width]
        for share, bets in _bets(column, filled, tolerance, confidence):
            table = np.zeros((len(bets), shape[1]))
            table[:, : column.width] = np.log(bets)
            logs.append(table)
            owner += [index] * len(bets)
            weight += [share / len(bets)] * len(bets)
    parts = np.concatenate(logs), np.array(owner, np.int64), np.array(weight, np.float64)
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


def _bets(
    column: Column, counts: Floats, tolerance: float, confidence: float
) -> list[tuple[float, Floats]]:
    """Groups of fair bets (M, B), each with its weight in the column; a weight is never lost."""
    if not counts.sum():
        return []
    groups = []
    if column.kind == "numeric" and column.width > 2:
        smooth = (counts + 0.5) / (counts + 0.5).sum()
        place, spread = _scores(smooth)
        for weight, score in ((_SHIFT_WEIGHT, place), (_SPREAD_WEIGHT, spread)):
            bets = _tilts(smooth, score, counts, tolerance, confidence)
            groups.append((weight, bets))
    groups.append((_BIN_WEIGHT, _single_bins(counts, tolerance, confidence)))
    kept = [(weight, bets) for weight, bets in groups if len(bets)]
    total = sum(weight for weight, _ in kept) or 1.0
    return [(weight / total * (1 - ADAPTIVE_WEIGHT), bets) for weight, bets in kept]


def _scores(smooth: Floats) -> tuple[Floats, Floats]:
    """Normal scores of the value bins, and their squares; 0 for the missing bin."""
    values = smooth[:-1] / smooth[:-1].sum()
    ranks = values.cumsum() - values / 2
    scores = np.array([NormalDist().inv_cdf(float(rank)) for rank in ranks])
    return np.append(scores, 0.0), np.append(scores**2 - values @ scores**2, 0.0)


def _tilts(
    smooth: Floats, score: Floats, counts: Floats, tolerance: float, confidence: float
) -> Floats:
    """Bets on reference * exp(theta * score), theta of both signs, each at a set distance."""
    n = counts.sum()
    radius = tolerance + math.sqrt(2 * _NOISE * confidence / n)
    targets = np.array([radius + beyond for beyond in _BEYOND_TILT])
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
    bets = robust_bet(after, np.broadcast_to(smooth, after.shape), radius)
    return fair(bets, counts, tolerance, confidence)


def _tilted(smooth: Floats, score: Floats, theta: Floats) -> Floats:
    logs = np.log(smooth) + theta[:, None] * score
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _single_bins(counts: Floats, tolerance: float, confidence: float) -> Floats:
    """Likelihood ratios on one bin's share, up and down, against the bound on that share."""
    n = counts.sum()
    highest = np.minimum(upper_bound(counts / n, n, confidence) + tolerance, 1.0)
    lowest = np.maximum(lower_bound(counts / n, n, confidence) - tolerance, 0.0)
    bets = []
    for bounds, sign in ((highest, 1.0), (lowest, -1.0)):
        for index, bound in enumerate(bounds):
            for beyond in _BEYOND_BIN:
                share = bound + sign * beyond
                if 1 - _STRONGEST <= share <= _STRONGEST:
                    factors = np.full(len(counts), (1 - share) / (1 - bound))
                    factors[index] = share / bound
                    bets.append(factors)
    return np.array(bets).reshape(len(bets), len(counts))
