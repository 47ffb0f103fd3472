"""Comparing two versions once, on a frozen set: the offline gates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from homeostat.errors import InputError
from monitoring.evidence import Floats, checked
from monitoring.exact import lost_and_won, p_at_least, score

_HALVINGS = 30


@dataclass(frozen=True)
class PairedOutcome:
    """The comparison of a candidate with the champion on the same n rows.

    Args:
        n: Rows.
        mean: Mean of loss(candidate) - loss(champion); negative is better.
        low: Lower end of the two-sided interval of that mean at the error rate.
        high: Its upper end.
        p_not_worse: Of "worse by the margin or more": small means shown to be not worse.
        passed: `p_not_worse` is at most the error rate.
    """

    n: int
    mean: float
    low: float
    high: float
    p_not_worse: float
    passed: bool


def compare_losses(
    candidate: ArrayLike, champion: ArrayLike, margin: float, error_rate: float
) -> PairedOutcome:
    r"""Has the candidate been shown to be not worse than the champion by `margin`?

    A test for one look at a frozen set (the sequential sibling is `PairedTest`). Its p-value
    holds at every n, whatever the losses are distributed like: for 0/1 losses by the exact
    unconditional test on Tango's (1998) score

    .. math:: z(\delta) = (\bar d - \delta) / \sqrt{V(\delta) / n},

    which is McNemar's at :math:`\delta = 0`; V is the variance of the differences of losses
    :math:`d_i` fitted with their mean held at :math:`\delta`. For other losses by betting. The
    interval is for people: it holds the :math:`\delta` that the score does not refuse, V being
    the mean square about :math:`\delta` where losses are not 0/1, and is approximate.

    Args:
        candidate: (n,) losses in [0, 1].
        champion: (n,) losses of the same rows.
        margin: How much worse still counts as not worse, in [0, 1].
        error_rate: Of `passed` (a candidate that is worse by the margin or more passes no more
            often), and of the interval; in (0, 1).

    Returns:
        The outcome; with n = 0 nothing is shown: interval (-1, 1), p-value 1, not passed.

    Raises:
        InputError: lengths that differ, losses outside [0, 1], or such a margin or error rate.

    Example:
        >>> champion = [0.0] * 90 + [1.0] * 10
        >>> compare_losses(champion, champion, margin=0.05, error_rate=0.05).passed
        True
        >>> compare_losses([1.0] * 30 + [0.0] * 70, champion, margin=0.05, error_rate=0.05).passed
        False
    """
    ours, theirs = (checked(losses, 0.0, 1.0, "loss") for losses in (candidate, champion))
    if len(ours) != len(theirs):
        raise InputError(f"{len(ours)} losses cannot be paired with {len(theirs)}.")
    if not (0.0 <= margin <= 1.0 and 0.0 < error_rate < 1.0):
        raise InputError(f"A margin of {margin} at error rate {error_rate} cannot be tested.")
    differences = ours - theirs
    n = len(differences)
    if not n:
        return PairedOutcome(0, 0.0, -1.0, 1.0, 1.0, passed=False)
    mean = float(differences.mean())
    normal = NormalDist()
    margin = min(margin, 1.0 - 1e-9)
    p_not_worse = p_at_least(differences, margin)
    critical = normal.inv_cdf(1.0 - error_rate / 2.0)
    score_of = _scorer(differences)
    low = _end(score_of, mean, -1.0, critical)
    high = _end(score_of, mean, 1.0, critical)
    return PairedOutcome(n, mean, low, high, p_not_worse, p_not_worse <= error_rate)


def _scorer(differences: Floats) -> Callable[[float], float]:
    """The score of "the mean difference is delta", by delta; 0 where it is met exactly."""
    n, counts = len(differences), lost_and_won(differences)
    if counts is not None:
        lost, won = np.array([counts[0]]), np.array([counts[1]])
        return lambda delta: float(score(n, lost, won, delta)[0])
    mean, square = float(differences.mean()), float((differences**2).mean())

    def by_spread(delta: float) -> float:
        excess = mean - delta
        if abs(excess) < 1e-12:
            return 0.0
        variance = square - 2.0 * delta * mean + delta * delta
        return excess / math.sqrt(max(variance, 1e-12) / n)

    return by_spread


def _end(score_of: Callable[[float], float], mean: float, limit: float, critical: float) -> float:
    """The end of the interval between `mean` and `limit`, by halving."""
    inside, outside = mean, limit
    if abs(score_of(limit)) <= critical:
        return limit
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if abs(score_of(middle)) <= critical:
            inside = middle
        else:
            outside = middle
    return inside
