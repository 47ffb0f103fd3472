"""Comparing two versions once, on a frozen set: the offline gates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from homeostat.errors import InputError
from monitoring.evidence import Floats, checked

_HALVINGS = 50


@dataclass(frozen=True)
class PairedOutcome:
    """The comparison of a candidate with the champion on the same n rows.

    Args:
        n: Rows.
        mean: Mean of loss(candidate) - loss(champion); negative is better.
        low: Lower end of the two-sided interval of that mean at the error rate.
        high: Its upper end.
        p_not_worse: Of "worse by the margin or more": small means shown to be not worse.
        p_worse: Of "not worse at all": small means shown to be worse.
        passed: `p_not_worse` is at most the error rate.
    """

    n: int
    mean: float
    low: float
    high: float
    p_not_worse: float
    p_worse: float
    passed: bool


def compare_losses(
    candidate: ArrayLike, champion: ArrayLike, margin: float, error_rate: float
) -> PairedOutcome:
    r"""Has the candidate been shown to be not worse than the champion by `margin`?

    A test for one look at a frozen set (the sequential sibling is `PairedTest`). With
    :math:`d_i` the differences of losses, both hypotheses are judged by the score

    .. math:: z(\delta) = (\bar d - \delta) / \sqrt{V(\delta) / n},

    where V is the variance fitted under the hypothesis: for 0/1 losses Tango's (1998), which is
    McNemar's test at :math:`\delta = 0` and works without a single disagreement; for other losses
    the mean square about :math:`\delta`. The interval holds the :math:`\delta` that the score does
    not refuse.

    Args:
        candidate: (n,) losses in [0, 1].
        champion: (n,) losses of the same rows.
        margin: How much worse still counts as not worse, in [0, 1].
        error_rate: Of the test, and of the interval, in (0, 1).

    Returns:
        The outcome; with n = 0 nothing is shown: interval (-1, 1), p-values 1, not passed.

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
        return PairedOutcome(0, 0.0, -1.0, 1.0, 1.0, 1.0, passed=False)
    mean = float(differences.mean())
    normal = NormalDist()
    p_not_worse = normal.cdf(_score(differences, margin))
    p_worse = normal.cdf(-_score(differences, 0.0))
    critical = normal.inv_cdf(1.0 - error_rate / 2.0)
    low = _end(differences, mean, -1.0, critical)
    high = _end(differences, mean, 1.0, critical)
    return PairedOutcome(n, mean, low, high, p_not_worse, p_worse, p_not_worse <= error_rate)


def _score(differences: Floats, delta: float) -> float:
    """The score of "the mean difference is `delta`"; 0 where it is met exactly."""
    n = len(differences)
    excess = float(differences.mean()) - delta
    if abs(excess) < 1e-12:
        return 0.0
    if np.isin(differences, (-1.0, 0.0, 1.0)).all():
        variance = _tango_variance(differences, delta)
    else:
        variance = float(((differences - delta) ** 2).mean())
    return excess / math.sqrt(max(variance, 1e-12) / n)


def _tango_variance(differences: Floats, delta: float) -> float:
    """Variance of one difference, its parameters fitted with the mean held at `delta`."""
    n = len(differences)
    worse, better = int((differences > 0).sum()), int((differences < 0).sum())
    slope = -worse - better + (2 * n - worse + better) * delta
    constant = -better * delta * (1 - delta)
    root = math.sqrt(max(slope * slope - 8 * n * constant, 0.0))
    return 2 * (root - slope) / (4 * n) + delta * (1 - delta)


def _end(differences: Floats, mean: float, limit: float, critical: float) -> float:
    """The end of the interval between `mean` and `limit`, by halving."""
    inside, outside = mean, limit
    if abs(_score(differences, limit)) <= critical:
        return limit
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if abs(_score(differences, middle)) <= critical:
            inside = middle
        else:
            outside = middle
    return inside
