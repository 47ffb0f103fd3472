r"""How late labels come, learnt from those that did and those that have not yet.

A prediction without a label says that its label takes longer than the prediction is old: it is
censored. The share labelled by age a is one minus the Kaplan-Meier product over the ages at which
labels came, :math:`\prod_{t \le a} (1 - d_t / n_t)`, with d_t labels of n_t predictions that were
without one and old enough (Kaplan and Meier, *Nonparametric estimation from incomplete
observations*, 1958). Counting only the labels that came would call every label quick.

Shapes: K ages at which labels came.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

AT_RISK = 20  # predictions behind each step: beyond that one label would decide the curve
MATURE = 0.95  # of the labels that come at all
DOUBT = 0.01
STRETCHES, STRETCH = 50, 100  # of time, within which labels are compared; labels of each, at least


@dataclass(frozen=True, eq=False)
class DelayCurve:
    """The share of predictions that have their label, by age.

    Args:
        ages: (K,) seconds, ascending.
        shares: (K,) share labelled at that age, not falling, in [0, 1].
    """

    ages: Floats
    shares: Floats

    @property
    def final(self) -> float:
        """The share that is labelled at the greatest age that is known."""
        return float(self.shares[-1]) if len(self.shares) else 0.0

    def share(self, age: float) -> float:
        """The share labelled at an age in seconds."""
        place = int(np.searchsorted(self.ages, age, side="right"))
        return float(self.shares[place - 1]) if place else 0.0

    def mature_after(self, part: float = MATURE) -> float | None:
        """The age in seconds at which a part of the labels that come are in; None: none came."""
        if not self.final:
            return None
        place = int(np.searchsorted(self.shares, part * self.final - 1e-12))
        return float(self.ages[place])


def learn_delays(labelled: ArrayLike, waiting: ArrayLike, counts: ArrayLike) -> DelayCurve:
    """The delay curve of labels.

    Args:
        labelled: Age in seconds of each prediction that has a label, when that came.
        waiting: (W,) ages of predictions without a label.
        counts: (W,) how many predictions are of each of these ages.
    """
    came = np.sort(np.maximum(np.asarray(labelled, dtype=np.float64), 0.0))
    ages = np.asarray(waiting, dtype=np.float64)
    order = np.argsort(ages)
    ages, sizes = ages[order], np.asarray(counts, dtype=np.float64)[order]
    steps, events = np.unique(came, return_counts=True)
    still = np.r_[np.cumsum(sizes[::-1])[::-1], 0.0][np.searchsorted(ages, steps)]
    at_risk = len(came) - np.searchsorted(came, steps) + still
    known = at_risk >= AT_RISK
    steps, events, at_risk = steps[known], events[known], at_risk[known]
    return DelayCurve(steps, 1.0 - np.cumprod(1.0 - events / at_risk))


def sooner(made: ArrayLike, took: ArrayLike) -> NDArray[np.bool_]:
    """Which labels came sooner than the median of predictions that were made about when theirs was.

    Within stretches of time, so that delays and losses which both change with time do not look
    like labels that come sooner for what they say.

    Args:
        made: (L,) when each prediction was made, or its age.
        took: (L,) seconds until its label.

    Returns:
        (L,) booleans.
    """
    moments, delays = (np.asarray(values, dtype=np.float64) for values in (made, took))
    cuts = min(STRETCHES, max(1, len(moments) // STRETCH))
    edges = np.quantile(moments, np.arange(1, cuts) / cuts) if len(moments) else moments
    stretch = np.searchsorted(edges, moments, side="right")  # what was asked at once stays together
    quick = np.zeros(len(delays), dtype=bool)
    for place in np.unique(stretch):
        own = stretch == place
        quick[own] = delays[own] <= np.median(delays[own])
    return quick


def difference(first: ArrayLike, second: ArrayLike) -> tuple[float, float]:
    """Limits of mean(first) - mean(second), losses in [0, 1]; wrong for at most 1 of 100 samples.

    Hoeffding's (1963), for independent values; (-1, 1) where either is empty.
    """
    one, other = (np.asarray(values, dtype=np.float64) for values in (first, second))
    if not len(one) or not len(other):
        return -1.0, 1.0
    width = math.sqrt(math.log(2 / DOUBT) / 2 * (1 / len(one) + 1 / len(other)))
    gap = float(one.mean() - other.mean())
    return max(-1.0, gap - width), min(1.0, gap + width)
