r"""Since when: the split of a series in two that makes it likeliest, with a confidence set.

The values are counted in bins, step by step in the order of time. Before the change they are
drawn from one distribution over the bins, after it from another, both unknown. A segment of
counts :math:`n_b` has the likelihood of a multinomial whose shares were averaged over Jeffreys'
prior (Dirichlet of 1/2): this charges each segment for the shares it fits, which plain maximum
likelihood does not, so that a handful of rows at an end is no "change". The estimate maximises

.. math:: \ell(k) = \log m(n_{\text{reference}} + n_{1..k}) + \log m(n_{k+1..T})

over the split k, and the confidence set holds every split with
:math:`\ell(k) \ge \max \ell - c`. Beside the true split :math:`\ell` falls as a random walk does,
and for a change that is small against the noise of one value the two sides' highest points above
it are independent standard exponentials: the set covers with probability
:math:`(1 - e^{-c})^2` (Siegmund 1988), and larger changes only make it cautious. Values are
taken as independent in time. Where the gain, the likelihood above that of no change, is small, a
short segment at the end fits noise best: dates are to be believed from a gain of `CLEAR` on.

Shapes: T steps, B bins.

References:
    Hinkley, *Inference about the change-point in a sequence of random variables* (1970);
    Siegmund, *Confidence sets in change-point problems* (1988).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homeostat.errors import InputError

LEVEL = 0.95
CLEAR = 10.0  # gain from which the confidence set keeps its level, see the seeded test
_PRIOR = 0.5  # pseudo-count of a bin: Jeffreys' prior

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ChangePoint:
    """Where a series splits best; a split k is between step k - 1 and step k.

    Args:
        split: The first step after the change, by the estimate.
        low: The first and
        high: the last split of the confidence set.
        level: With what probability the set covers the true split.
        gain: Log likelihood above that of no change at all.
        before: Rows in each bin before the split, those of the reference included, (B,).
        after: Rows in each bin after it, (B,).
    """

    split: int
    low: int
    high: int
    level: float
    gain: float
    before: tuple[float, ...]
    after: tuple[float, ...]


def change_point(
    counts: ArrayLike, reference: ArrayLike | None = None, level: float = LEVEL
) -> ChangePoint:
    """The likeliest split of a series of counts.

    Args:
        counts: (T, B) rows of each step in each bin; steps may hold any number of rows.
        reference: (B,) rows that are known to be from before; None: there are none.
        level: Of the confidence set, in (0, 1).

    Raises:
        InputError: no step, counts that are no counts, or a level that is none.

    Example:
        >>> steps = np.array([[9, 1]] * 60 + [[5, 5]] * 40)
        >>> found = change_point(steps)
        >>> found.split, found.low <= 60 <= found.high
        (60, True)
    """
    steps = np.asarray(counts, dtype=np.float64)
    if steps.ndim != 2 or not steps.size:
        raise InputError(f"Counts of shape {steps.shape} are no series.")
    known = np.zeros(steps.shape[1]) if reference is None else np.asarray(reference, np.float64)
    if known.shape != steps.shape[1:]:
        raise InputError(f"Reference counts of shape {known.shape} do not fit {steps.shape}.")
    if not (np.isfinite(steps).all() and (steps >= 0).all() and (known >= 0).all()):
        raise InputError("Counts must be finite and not negative.")
    if not 0.0 < level < 1.0:
        raise InputError(f"A confidence level of {level} means nothing.")
    before = np.vstack([known, known + steps.cumsum(axis=0)])
    after = before[-1] - before
    used = before[-1] > 0  # a bin that nothing ever fell into says nothing of the split
    likelihood = _log_marginal(before[:, used]) + _log_marginal(after[:, used])
    # Not before the first step where nothing is known of the time before.
    first = 0 if known.sum() else 1
    inner = likelihood[first:-1] if len(steps) > first else likelihood[:1]
    split = int(inner.argmax()) + (first if len(steps) > first else 0)
    near = np.flatnonzero(inner >= inner.max() - _drop(level)) + split - int(inner.argmax())
    return ChangePoint(
        split=split,
        low=int(near[0]),
        high=int(near[-1]),
        level=level,
        gain=float(inner.max() - likelihood[-1]),
        before=tuple(before[split].tolist()),
        after=tuple(after[split].tolist()),
    )


def _drop(level: float) -> float:
    """How far below the maximum a split of the set may lie: (1 - exp(-c))^2 = level."""
    return -math.log1p(-math.sqrt(level))


def _log_marginal(counts: Floats) -> Floats:
    """Log likelihood of counts (..., B) in one order, averaged over Jeffreys' prior."""
    bins = counts.shape[-1]
    inside = _log_gamma(counts + _PRIOR).sum(axis=-1) - bins * math.lgamma(_PRIOR)
    whole = math.lgamma(bins * _PRIOR) - _log_gamma(counts.sum(axis=-1) + bins * _PRIOR)
    return np.asarray(inside + whole)


def _log_gamma(x: Floats) -> Floats:
    """Log of the gamma function of positive numbers: Stirling's series, shifted to above 8."""
    low = np.minimum(x, 8.0)
    shift = np.zeros_like(x)
    for step in range(8):
        shift += np.where(x < 8.0, np.log(low + step), 0.0)
    z = np.where(x < 8.0, x + 8.0, x)
    series = 1 / (12 * z) - 1 / (360 * z**3) + 1 / (1260 * z**5)
    return np.asarray((z - 0.5) * np.log(z) - z + 0.5 * math.log(2 * math.pi) + series - shift)
