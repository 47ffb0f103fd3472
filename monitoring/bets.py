"""Bets that stay fair under a tolerance and a finite reference.

A *bet* gives each bin of a column a factor f >= 0. It is fair when the mean of f is at most 1
under every distribution that still counts as unchanged; the product of fair bets is evidence.

Unchanged means: within total variation `radius` of the reference. A reference is itself a
sample of n rows, so every bound on it is taken at its confidence limit (Chernoff), not at its
frequency. Shapes: ... any leading axes, B bins.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_STEPS = 50  # halvings of at most [0, 1]: to the last bits of a double


def upper_bound(mean: ArrayLike, n: float, log_confidence: float) -> Floats:
    """The largest mean that a sample mean in [0, 1] of n independent values still allows.

    The Chernoff bound, solved for the mean: n * kl(sample mean, bound) = `log_confidence`. The
    true mean lies above it with probability at most exp(-`log_confidence`), for any n and any
    distribution on [0, 1] (Hoeffding 1963, theorem 1).

    Args:
        mean: Sample means, any shape.
        n: Number of values behind each; 0 gives 1.
        log_confidence: ln(1 / error rate), positive.

    Returns:
        Bounds in [mean, 1], the shape of `mean`.
    """
    means = np.clip(np.asarray(mean, dtype=np.float64), 0.0, 1.0)
    if n <= 0:
        return np.ones_like(means)
    others = 1.0 - means
    # kl(p, q) = known - p ln q - (1 - p) ln(1 - q), and at least 2 (q - p)^2 (Pinsker).
    known = _times_log(means) + _times_log(others)
    low = means.copy()
    high: Floats = np.minimum(means + np.sqrt(log_confidence / (2 * n)), 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(_STEPS):
            middle = (low + high) / 2.0
            divergence = known - means * np.log(middle) - others * np.log1p(-middle)
            inside = n * divergence <= log_confidence
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return high


def robust_bet(after: Floats, before: Floats, radius: ArrayLike) -> Floats:
    """The best fair bet on `after` against everything within `radius` of `before`.

    The likelihood ratio of `after` to its projection on the ball of total variation: the plain
    ratio, clipped from below and above (Huber 1965; as an e-value Saha and Ramdas 2024). Inside
    the ball there is nothing to bet on and every factor is 1.

    Args:
        after: (..., B) probabilities bet on, positive where `before` is.
        before: (..., B) probabilities of the reference.
        radius: (...) positive, or a number.

    Returns:
        (..., B) factors; the mean under any distribution in the ball is at most 1.
    """
    slack = np.broadcast_to(np.asarray(radius, dtype=np.float64), after.shape[:-1])[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(before > 0, after / before, np.where(after > 0, np.inf, 1.0))
        order = np.argsort(-ratio, axis=-1)
        gained = np.take_along_axis(after, order, -1)
        known = np.take_along_axis(before, order, -1)
        # The root of sum (after/c - before)+ = radius is the maximum over the top sets of bins.
        ceiling = (gained.cumsum(-1) / (known.cumsum(-1) + slack)).max(-1, keepdims=True)
        spare = known[..., ::-1].cumsum(-1) - slack
        floors = np.where(spare > 0, gained[..., ::-1].cumsum(-1) / spare, np.inf)
    floor = np.minimum(floors.min(-1, keepdims=True), 1.0)
    factors = np.clip(ratio, floor, np.maximum(ceiling, 1.0))
    return np.asarray(np.where(ceiling > 1.0, factors, 1.0))


def highest_mean(factors: Floats, counts: Floats, log_confidence: float) -> Floats:
    """The largest mean of factors that a reference still allows, (M,), by the Chernoff bound.

    Args:
        factors: (M, B), positive.
        counts: (B,) rows of the reference in each bin.
        log_confidence: ln(1 / probability that the reference misleads).
    """
    n = float(counts.sum())
    low, high = factors.min(-1), factors.max(-1)
    spread = np.maximum(high - low, 1e-12)
    share = upper_bound((factors @ (counts / max(n, 1.0)) - low) / spread, n, log_confidence)
    return np.asarray(np.minimum(low + spread * share, high))


def total_variation(one: Floats, other: Floats) -> Floats:
    """Half the sum of absolute differences over the last axis, in [0, 1]."""
    return np.asarray(0.5 * np.abs(one - other).sum(axis=-1))


def _times_log(shares: Floats) -> Floats:
    """The terms x ln x, which are 0 at 0."""
    return np.asarray(shares * np.log(np.where(shares > 0, shares, 1.0)))
