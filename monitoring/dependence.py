"""How far apart values must be, in the order of time, to be bet on as independent.

A bet is fair while the mean, *given the past*, stays within its bound. Where a row tells of the
next ones (one customer's day, one batch of a scanner) it does not stay there, and false alarms come
in bursts, however large the budget. So only each row that is far enough from the one before is bet
on: thinning, by the time over which the rows' own autocorrelation dies away.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homeostat.errors import InputError

Floats = NDArray[np.float64]

LAGS = (1, 2, 3, 5, 8, 12, 20, 30)
FURTHEST = 50  # rows apart, where even the longest lag is correlated
BLOCK = 200  # rows of one look
FIRST = 100  # rows of each of the first two: until then every row is bet on
BLOCKS = 15  # whose median counts
REST = 600  # rows between two looks, once there are so many: a look costs 3 us a row at 60 columns
CORRELATED = 0.07  # less breaks no promise that could be seen
DOUBT = 0.001  # chance that independent rows are taken for dependent ones, at each look and lag
OF_MEDIAN = 1.253  # standard error of a median, against that of the mean


class Spacing:
    r"""The gap between two rows that are bet on; 1 while nothing says that they are dependent.

    Of every block of m rows each column is cut at its median, b = 1 above and 0 below: that
    outliers, codes and missing values (b = 0) cannot distort. It gives the autocorrelations

    .. math:: r_k = \sum_{i > k} (b_i - \bar b) (b_{i-k} - \bar b) / \sum_i (b_i - \bar b)^2

    (with 1/m + 3 r_k/m added, by which the mean that was taken off pulls each down: Marriott and
    Pope 1954), and of the last `BLOCKS` blocks the
    lower median counts: the block in which the world changes is not taken for dependence, just
    when evidence is wanted. A column's gap is the first of the lags at which this one and the
    next are below the larger of `CORRELATED` and z standard errors (Bartlett 1946: 1 / sqrt(n); z
    for `DOUBT` over all columns); the largest of the columns' gaps counts. It depends on the rows
    before alone, so whether a row is bet on is decided without looking at it.

    Args:
        columns: C, of the rows.
    """

    def __init__(self, columns: int = 1) -> None:
        self.gap = 1
        self._since = 0
        self._rest = 0
        self._block = np.zeros((0, columns))
        self._found = deque[Floats](maxlen=BLOCKS)  # (lags, C) of each block
        self._sure = NormalDist().inv_cdf(1.0 - DOUBT / columns)

    @property
    def columns(self) -> int:
        """C, of the rows."""
        return int(self._block.shape[1])

    def keep(self, rows: ArrayLike) -> NDArray[np.bool_]:
        """Which of the next rows (N, C) are to be bet on, (N,); they are taken note of.

        Raises:
            InputError: rows of another number of columns.
        """
        given = np.asarray(rows, dtype=np.float64)
        if given.ndim != 2 or given.shape[1] != self.columns:
            raise InputError(f"Rows of shape {given.shape} do not have {self.columns} columns.")
        kept = np.zeros(len(given), dtype=np.bool_)
        start = 0
        while start < len(given):
            size = self._size()
            end = min(len(given), start + (self._rest or size - len(self._block)))
            places = np.arange(start + max(0, self.gap - 1 - self._since), end, self.gap)
            kept[places] = True
            self._since = int(end - 1 - places[-1]) if len(places) else self._since + end - start
            if self._rest:
                self._rest -= end - start
            else:
                self._block = np.concatenate([self._block, given[start:end]])
            if len(self._block) == size:
                self._found.append(_autocorrelations(self._block))
                self._block = self._block[:0]
                self._rest = REST if len(self._found) == BLOCKS else 0
                self.gap = self._judge()
            start = end
        return kept

    def _size(self) -> int:
        return FIRST if len(self._found) < 2 else BLOCK

    def _judge(self) -> int:
        """The gap by the lower median of the last blocks; one alone may hold a change."""
        count = len(self._found)
        if count < 2:
            return 1
        median = np.sort(np.stack(self._found), axis=0)[(count - 1) // 2]
        rows = BLOCK * count if count > 2 else FIRST * count
        error = OF_MEDIAN / math.sqrt(rows)
        high = median > max(CORRELATED, self._sure * error)
        for place, lag in enumerate(LAGS):
            if not (high[:place].all(axis=0) & high[place : place + 2].any(axis=0)).any():
                return lag
        return FURTHEST

    def merge(self, other: Spacing) -> None:
        """Take what a replica knows of the same stream."""
        self._found.extend(other._found)
        self.gap = self._judge()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "gap": self.gap,
            "since": self._since,
            "rest": self._rest,
            "block": self._block.tolist(),
            "found": [one.tolist() for one in self._found],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], columns: int = 1) -> Spacing:
        """What `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: it is nothing of the kind.
        """
        spacing = cls(columns)
        spacing.gap, spacing._since = int(value["gap"]), int(value["since"])
        spacing._rest = int(value["rest"])
        spacing._block = np.array(value["block"], dtype=np.float64).reshape(-1, columns)
        shape = (len(LAGS), columns)
        spacing._found.extend(np.array(one, np.float64).reshape(shape) for one in value["found"])
        if (
            not 1 <= spacing.gap <= FURTHEST
            or spacing._since < 0
            or len(spacing._block) >= spacing._size()
        ):
            raise ValueError(f"a gap of {spacing.gap} after {len(spacing._block)} rows")
        return spacing


def _autocorrelations(rows: Floats) -> Floats:
    """Of each lag, (lags, C), of rows (m, C) cut at their medians; 0 of a constant column."""
    block = np.nan_to_num(rows, nan=-math.inf, posinf=math.inf, neginf=-math.inf)
    middle = np.median(block, axis=0)
    above = block > middle
    top = ~above.any(axis=0)  # half of them or more are the largest value
    above[:, top] = block[:, top] >= middle[top]
    centred = above - above.mean(axis=0)
    own = (centred * centred).sum(axis=0)
    varies = own > 0.0
    found = np.zeros((len(LAGS), block.shape[1]))
    for place, lag in enumerate(LAGS):
        together = (centred[lag:] * centred[:-lag]).sum(axis=0)
        seen = together[varies] / own[varies]
        found[place, varies] = seen + (1.0 + 3.0 * seen) / len(block)
    return found
