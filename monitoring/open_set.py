r"""The share of rows that are of no known class, as an estimate without labels.

Rows of a class that a model was never taught are mostly answered less surely than those of the
classes it knows. So recent rows are taken as a mixture: with P the distribution of the confidence
of known rows (the reference's held-out ones), U that of the others, about which nothing is
supposed, and pi their share,

.. math:: Q = (1 - \pi) P + \pi U.

For every cut t of the confidence Q(>= t) >= (1 - pi) P(>= t), and so

.. math:: \pi \ge e_t = 1 - Q(\ge t) / P(\ge t).

The share is the e_t of the cut whose lower limit is the highest; its limits are simultaneous over
all cuts: Wilson's for both shares, at an error rate divided by the cuts (Bonferroni), combined for
their ratio by Donner and Zou's rule. The lower one holds for whatever U, in 97.5 % of windows. The
upper one is for that cut's e_t, which is pi itself only where no row of an unknown class is as sure
as the cut: a model that is sure of what it never saw hides such rows, and nothing here finds them.

**What is supposed**: known rows are as sure as the reference's were, and come independently. Where
known rows became harder (blurred, of rarer classes, from elsewhere) that looks the same, and is
counted as unknown. Only labels tell: `unseen` counts them.

References: Blanchard, Lee and Scott, *Semi-supervised novelty detection* (2010), for the bound, the
largest part of P that fits into Q; Donner and Zou, *Closed-form confidence intervals for functions
of the normal mean and standard deviation* (2012), for the ratio; Clopper and Pearson (1934).

Shapes: B bins of the confidence, T cuts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from monitoring.columns import Column
from monitoring.counting import Floats

LEVEL = 0.95  # of both limits together
LEAST_ROWS = 30  # fewer are no window


@dataclass(frozen=True)
class OpenSet:
    """Which share of some rows is likely to be of no known class; never which rows.

    Args:
        rows: How many.
        share: The estimate, in [0, 1]: so much or more; None where there is none.
        low: Its lower limit: above 0, there is a sign of unknown classes.
        high: Its upper limit, if no unknown row is answered surely.
        trouble: Why there is none; empty where there is one.
    """

    rows: int
    share: float | None
    low: float = 0.0
    high: float = 1.0
    trouble: str = ""

    @property
    def limits(self) -> tuple[float, float, float] | None:
        """The estimate between its limits, lower first; None without any."""
        return None if self.share is None else (self.low, self.share, self.high)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON that says what it is."""
        return {"estimated": True, "level": LEVEL, **asdict(self)}


@dataclass(frozen=True)
class Unseen:
    """What labels say: how many of them name a class that the model does not have.

    Args:
        labels: How many were looked at, the newest.
        unseen: How many of these name no known class.
        low: Lower end of the 95 % interval of that share.
        high: Its upper end.
    """

    labels: int
    unseen: int
    low: float
    high: float

    @property
    def share(self) -> float | None:
        """Of the labels; None without any."""
        return self.unseen / self.labels if self.labels else None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {"share": self.share, **asdict(self)}


@lru_cache(maxsize=64)  # it is asked for at each look, and changes with the labels alone
def unseen(labels: int, found: int) -> Unseen:
    """A share with its exact interval.

    Args:
        labels: How many.
        found: Of these, with a class that the model does not have.
    """
    if not labels:
        return Unseen(0, 0, 0.0, 1.0)
    # Here: only who has labels pays for it; scipy.stats has the same, and takes a second to import.
    from scipy.special import betaincinv

    rest, beyond = labels - found, (1.0 - LEVEL) / 2
    low = float(betaincinv(found, rest + 1, beyond)) if found else 0.0
    high = float(betaincinv(found + 1, rest, 1.0 - beyond)) if rest else 1.0
    return Unseen(labels, found, low, high)


def open_set(column: Column, counts: ArrayLike) -> OpenSet:
    """The share of rows of no known class, by how sure the model is of all of them.

    Args:
        column: The profile's confidence, with the reference's counts.
        counts: (B or more,) recent rows in its bins.
    """
    bins = column.width - 1  # without the missing values
    known = np.array(column.counts[:bins], dtype=np.float64)
    seen = np.asarray(counts, dtype=np.float64)[:bins]
    n, m = known.sum(), seen.sum()
    if m < LEAST_ROWS:
        return OpenSet(int(m), None, trouble=f"{int(m)} rows are too few: {LEAST_ROWS} are needed.")
    if (known > 0).sum() < 2:
        return OpenSet(int(m), None, trouble="The version is as sure of every row.")
    surer = known[::-1].cumsum()[::-1][1:]  # (T,) reference rows at or above each cut
    cuts = surer > 0
    p, q = surer[cuts] / n, seen[::-1].cumsum()[::-1][1:][cuts] / m
    z = NormalDist().inv_cdf(1.0 - (1.0 - LEVEL) / (2 * len(p)))
    least, most = _of_ratio(q, _wilson(q, m, z), p, _wilson(p, n, z))
    low, high = 1.0 - most, 1.0 - least
    best = int(low.argmax())
    said = (1.0 - q[best] / p[best], low[best], high[best])
    share, lower, upper = (min(max(float(one), 0.0), 1.0) for one in said)
    return OpenSet(int(m), share, lower, upper)


def _wilson(share: Floats, rows: float, z: float) -> tuple[Floats, Floats]:
    """Wilson's limits of shares (T,) of so many rows."""
    middle = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z * np.sqrt(share * (1 - share) / rows + (z / (2 * rows)) ** 2) / (1 + z**2 / rows)
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)


def _of_ratio(
    q: Floats, of_q: tuple[Floats, Floats], p: Floats, of_p: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """Limits of q / p from the limits of both."""
    both = q * p
    under = of_p[0] * (2 * p - of_p[0])
    upper = both + np.sqrt(np.maximum(both**2 - of_q[1] * (2 * q - of_q[1]) * under, 0.0))
    over = of_p[1] * (2 * p - of_p[1])
    lower = both - np.sqrt(np.maximum(both**2 - of_q[0] * (2 * q - of_q[0]) * over, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        least = np.where(over > 0, lower / over, 0.0)
        most = np.where(under > 0, upper / under, np.inf)
    return least, most
