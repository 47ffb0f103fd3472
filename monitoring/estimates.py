r"""Accuracy without labels: the mean loss that rows are likely to have, as an estimate.

It is made of counts that the monitors keep anyway, so it costs nothing for each row and adds up
over replicas. First, calibrated confidence (as NannyML's CBPE): with w_k the share of the rows in
bin k of the confidence and L_k the mean loss of the n_k reference rows there,

.. math:: E = \sum_k w_k L_k.

That misleads where rows move to a region in which the confidence is wrong. So what confidence
leaves is looked at along each column: with R_b the mean residual (loss minus L_k) of the n_b
reference rows in bin b, whose share there was p_b,

.. math:: D = \sum_b (w_b - p_b) R_b, \qquad \mathrm{var}\,D = \sum_b (w_b - p_b)^2 s_b^2 / n_b.

D of the column whose z is largest is added, shrunk by 1 - 2 log(columns) / z^2 (nothing where that
is negative: the largest z of pure noise is about that). Within a bin rows move too: to first order
by the slopes of density ratio and rate from bin to bin, and in the outermost bins, where rows that
are more than before lie further out than before, by a third of that slope.

The interval is for the mean loss that these rows will turn out to have. It adds the variance of
the calibration, of D (the largest of all columns) and of the draw of the losses; and, plainly, what
is no variance: the moves within bins, a whole slope in the outermost ones, and the least that a
second column would add. So it widens with the ratio of densities. Rows in bins that the reference
never had may lose anything: their share is added on both sides. How often it covers is counted by
`make bench-estimate` and `tests/unit/test_monitoring_estimates.py`.

**It sees no change of the concept**: where the same inputs have other truths now, it says what it
said before. Only labels tell; `Estimate.contradicted` asks them.

References: Bialek et al., *Estimating model performance under covariate shift* (2024) for the idea
of weighted calibration; Deville and Saerndal, *Calibration estimators in survey sampling* (1992).

Shapes: C columns, `confidence` last, B bins, N rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from monitoring.columns import Column
from monitoring.counting import Counts, Floats

LEVEL = 0.95  # of the interval
LEAST_ROWS = 30  # fewer are no window
MOST_UNSEEN = 0.1  # share of rows that are like none of the reference
WIDEST = 0.5  # an interval wider than this says nothing
NO_CALIBRATION = "The version was registered without a calibration; register it again."
_Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
_DOUBT = 0.01  # how often a column is named where none corrects, or labels that agree are doubted
_DIGITS = 6  # of sums in the JSON


@dataclass(frozen=True)
class Estimate:
    """What the mean loss of some rows is likely to be; never what it was.

    Args:
        rows: How many.
        loss: The estimate, in [0, 1]; None where it cannot be estimated.
        low: Lower end of the 95 % interval of their mean loss.
        high: Its upper end.
        column: The column along which confidence is shown to mislead; empty: none.
        trouble: Why it cannot be estimated; empty where it can.
    """

    rows: int
    loss: float | None
    low: float = 0.0
    high: float = 1.0
    column: str = ""
    trouble: str = ""

    @property
    def accuracy(self) -> tuple[float, float, float] | None:
        """Estimated accuracy with the ends of its interval, lower first; None without any."""
        return None if self.loss is None else (1 - self.high, 1 - self.loss, 1 - self.low)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON that says what it is."""
        return {"estimated": True, "level": LEVEL, **asdict(self)}

    def contradicted(self, labels: int, loss: float) -> bool:
        """Whether the labels of these rows say otherwise: then the concept has changed.

        Wrong for about 1 of 100 samples whose labels agree.

        Args:
            labels: How many.
            loss: Their mean loss, in [0, 1].
        """
        if self.loss is None or not labels:
            return False
        spread = max(loss * (1.0 - loss), 0.25 / labels) / labels
        own = (self.high - self.low) / (2.0 * _Z)
        far = NormalDist().inv_cdf(1.0 - _DOUBT / 2)
        return abs(loss - self.loss) > far * math.hypot(own, math.sqrt(spread))


def checked(estimate: Estimate, before: Estimate, labels: int, loss: float) -> Estimate:
    """An estimate, unless labels of earlier rows contradict what was estimated of those.

    Args:
        estimate: Of the rows in question.
        before: Of rows whose labels are in.
        labels: How many these are.
        loss: Their mean loss, in [0, 1].
    """
    if not before.contradicted(labels, loss):
        return estimate
    said = (
        f"{labels} labels have a mean loss of {loss:.3f} where {before.low:.3f} to "
        f"{before.high:.3f} was estimated: the concept has changed."
    )
    return Estimate(estimate.rows, None, trouble=said)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What a version lost on the rows that it was judged by, in the bins of its profile.

    Args:
        rows: (C, B) reference rows.
        losses: (B,) sum of their losses by bin of the confidence.
        squares: (B,) sum of the losses' squares.
        residuals: (C, B) sum of what confidence leaves of the losses.
        residual_squares: (C, B) sum of the squares of that.
    """

    rows: Counts
    losses: Floats
    squares: Floats
    residuals: Floats
    residual_squares: Floats

    @classmethod
    def fit(cls, bins: Counts, losses: ArrayLike, width: int) -> Self:
        """From held-out rows.

        Args:
            bins: (N, C) the bin of each value, confidence last; N > 0.
            losses: (N,) in [0, 1].
            width: B.
        """
        loss = np.asarray(losses, dtype=np.float64).ravel()
        columns, last = bins.shape[1], bins[:, -1]
        of = np.bincount(last, minlength=width)
        sums = np.asarray(np.bincount(last, loss, width), dtype=np.float64)
        left = loss - (sums / np.maximum(of, 1))[last]
        places = (bins + np.arange(columns) * width).ravel()

        def by_bin(values: Floats) -> Floats:
            repeated = np.repeat(values, columns)
            sums = np.bincount(places, repeated, columns * width)
            return np.asarray(sums, dtype=np.float64).reshape(columns, width)

        return cls(
            np.bincount(places, minlength=columns * width).reshape(columns, width),
            sums,
            np.asarray(np.bincount(last, loss**2, width), dtype=np.float64),
            by_bin(left),
            by_bin(left**2),
        )

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {name: np.round(getattr(self, name), _DIGITS).tolist() for name in _FIELDS}

    @classmethod
    def from_json(cls, data: Any, columns: int, width: int) -> Self:  # noqa: ANN401 - any JSON
        """What `to_json` gave.

        Raises:
            ValueError: figures that do not fit (or KeyError, TypeError: none at all).
        """
        rows = np.array(data["rows"], dtype=np.int64)
        sums = [np.array(data[name], dtype=np.float64) for name in _FIELDS[1:]]
        shapes = [(width,), (width,), (columns, width), (columns, width)]
        fits = rows.shape == (columns, width) and [one.shape for one in sums] == shapes
        if not fits or not all(np.isfinite(one).all() for one in sums) or (rows < 0).any():
            raise ValueError("a calibration that does not fit its columns")
        if rows[-1].sum() < 1 or (sums[0] > rows[-1] + 1e-3).any() or (sums[0] < 0).any():
            raise ValueError("a calibration with losses outside [0, 1]")
        return cls(rows, *sums)


_FIELDS = ("rows", "losses", "squares", "residuals", "residual_squares")


def estimate(
    calibration: Calibration | None, columns: Sequence[Column], counts: ArrayLike
) -> Estimate:
    """The mean loss of rows that are counted in the profile's bins.

    Args:
        calibration: Of the version's profile.
        columns: C of them.
        counts: (C, B).
    """
    seen = np.asarray(counts, dtype=np.float64)
    m = int(seen[-1].sum())
    if calibration is None:
        return Estimate(m, None, trouble=NO_CALIBRATION)
    if m < LEAST_ROWS:
        return Estimate(m, None, trouble=f"{m} rows are too few: {LEAST_ROWS} are needed.")
    n = calibration.rows.astype(np.float64)
    own, share = n / n[-1].sum(), seen / m
    strange = (share * (n == 0)).sum(axis=1)
    if strange.max() > MOST_UNSEEN:
        name, part = columns[int(strange.argmax())].name, strange.max()
        said = f"{part:.0%} of the rows are like none of the reference in '{name}'."
        return Estimate(m, None, trouble=said)
    ratio = share / np.where(n > 0, own, 1.0)
    loss, variance, blur = _by_confidence(calibration, columns[-1], own[-1], ratio[-1], m)
    more, doubt, plain, best = _by_columns(calibration, columns, own, ratio)
    loss = min(max(loss + more, 0.0), 1.0)
    width = _Z * math.sqrt(variance + doubt) + blur + plain + float(strange.max())
    low, high = max(0.0, loss - width), min(1.0, loss + width)
    if high - low > WIDEST:
        said = f"The interval {low:.2f} to {high:.2f} is too wide to say anything."
        return Estimate(m, None, low, high, trouble=said)
    return Estimate(m, loss, low, high, columns[best].name if best is not None else "")


def _by_confidence(
    calibration: Calibration, column: Column, own: Floats, ratio: Floats, m: int
) -> tuple[float, float, float]:
    """E, its variance (the draw of m losses included), and what moves within bins may add."""
    n, total = calibration.rows[-1], calibration.rows[-1].sum()
    mean = float(calibration.losses.sum() / total)
    rate = np.where(n > 0, calibration.losses / np.maximum(n, 1), mean)
    # A 0/1 loss's variance, one more row of the mean counted in, times how much less all losses
    # vary than 0/1 losses of their mean; never 0, since no reference knows that it cannot fail.
    smooth = (rate * n + mean) / (n + 1.0)
    most = mean * (1.0 - mean)
    ease = (calibration.squares.sum() / total - mean**2) / most if most > 0 else 1.0
    noise = np.maximum(smooth * (1.0 - smooth) * ease, 0.25 / (total + 1.0))
    share = own * ratio
    lean, blur = _within(column, own, ratio, rate)
    variance = float(share**2 @ (noise / np.maximum(n, 1)) + share @ noise / m)
    return float(share @ rate) + lean, variance, blur


def _by_columns(
    calibration: Calibration, columns: Sequence[Column], own: Floats, ratio: Floats
) -> tuple[float, float, float, int | None]:
    """The shrunk D, the largest variance of any column's, what is no variance, whose D is clear."""
    n = calibration.rows
    known, moved = np.maximum(n, 1), own * (ratio - 1.0)
    left = calibration.residuals / known
    pooled = calibration.residual_squares.sum(axis=1, keepdims=True) / n[-1].sum()
    noise = (calibration.residual_squares + pooled) / (n + 1.0)
    doubt = (moved**2 * noise / known).sum(axis=1)
    within = np.array([_within(*one) for one in zip(columns, own, ratio, left, strict=True)])
    shift = (moved * left).sum(axis=1) + within[:, 0]
    z = np.abs(shift) / np.sqrt(np.maximum(doubt, 1e-12))
    best = int(z.argmax())
    trust = max(0.0, 1.0 - 2.0 * math.log(len(z)) / max(float(z[best]) ** 2, 1e-12))
    second = np.delete(np.maximum(np.abs(shift) - _Z * np.sqrt(doubt), 0.0), best).max(initial=0.0)
    plain = trust * within[best, 1] + 0.5 * (1.0 - trust) * within[:, 1].max() + second
    clear = z[best] > NormalDist().inv_cdf(1.0 - _DOUBT / (2 * len(z)))
    return (
        trust * float(shift[best]),
        float(doubt.max()),
        float(plain),
        best if clear else None,
    )


def _within(column: Column, own: Floats, ratio: Floats, rate: Floats) -> tuple[float, float]:
    """What moves within a numeric column's bins do to the mean of a rate: guess, and its doubt."""
    at = np.flatnonzero(own[: column.width - 1] > 0)  # without the missing values
    if column.kind != "numeric" or len(at) < 2:
        return 0.0, 0.0
    slopes = np.gradient(rate[at])
    inner = own[at] * np.gradient(ratio[at]) * slopes / 12.0  # of linear functions on a unit
    ends, outwards = at[[0, -1]], np.array([-slopes[0], slopes[-1]])
    beyond = own[ends] * np.maximum(ratio[ends] - 1.0, 0.0) * outwards
    return float(inner.sum() + beyond.sum() / 3.0), float(np.abs([*inner, *beyond]).sum())
