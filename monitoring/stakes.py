"""The fixed bets of all columns, laid out so that many steps of evidence cost little.

Shapes: S steps, C columns, B bins, J bets of all columns, M bets of one column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.bets import Floats
from monitoring.portfolio import Portfolio

_GRID = 2.0**-32  # of log factors: sums of them over a step are then exact, in any order


@dataclass(frozen=True)
class Stakes:
    """A portfolio laid out so that many steps of evidence are a few matrix products.

    Args:
        groups: For columns with equally many bets: their indices (G,), where their bets are
            among all (G * M,), and their log factors (G, B, M).
        columns: Those that have fixed bets, ascending.
        starts: Where the bets of each of these begin.
        bets: How many fixed bets there are.
    """

    groups: tuple[tuple[NDArray[np.int64], NDArray[np.int64], Floats], ...]
    columns: NDArray[np.int64]
    starts: NDArray[np.int64]
    bets: int

    @classmethod
    def of(cls, portfolio: Portfolio, columns: int) -> Stakes:
        """The layout of a portfolio whose bets are in the order of their columns.

        Log factors are rounded down to a grid: a bet only gets smaller, so it stays fair, and
        a sum over rows is exact: evidence depends on the rows alone, not on how they came.
        """
        logs = np.floor(portfolio.logs / _GRID) * _GRID
        repeats = np.bincount(portfolio.owner, minlength=columns)
        starts = np.cumsum(repeats) - repeats
        groups = []
        for bets in sorted(set(repeats.tolist()) - {0}):
            members = np.flatnonzero(repeats == bets)
            slots = (starts[members][:, None] + np.arange(bets)).ravel()
            table = logs[slots].reshape(len(members), bets, logs.shape[1])
            groups.append((members, slots, np.ascontiguousarray(table.transpose(0, 2, 1))))
        present = np.flatnonzero(repeats)
        return cls(tuple(groups), present, starts[present], len(logs))

    def gains(self, counts: Floats) -> Floats:
        """The log factor of each fixed bet in each step, (S, J), of counts (S, C, B)."""
        gains = np.empty((len(counts), self.bets))
        by_column = counts.transpose(1, 0, 2)
        for members, slots, table in self.groups:
            product = by_column[members] @ table  # (G, S, M)
            gains[:, slots] = product.transpose(1, 0, 2).reshape(len(counts), -1)
        return gains

    def highest(self, climbs: Floats) -> Floats:
        """The largest value of each column's bets, (C,), of all bets' values.

        Args:
            climbs: Values of the fixed bets, then one more of each column: its learning bet's.
        """
        highest = climbs[self.bets :].copy()
        if len(self.columns):
            fixed = np.maximum.reduceat(climbs[: self.bets], self.starts)
            highest[self.columns] = np.maximum(highest[self.columns], fixed)
        return highest
