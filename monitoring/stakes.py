r"""What the fixed bets of all columns gain in a step of rows, each at a price that makes it fair.

A bet pays f per bin; its price is the mean that f can be expected to have while nothing changes.
What is known of that mean are the n rows of the reference and the N rows that came since, all of
one unknown distribution. For every Dirichlet process prior of mass at most 1, wherever it puts
that mass, the mean of f in the next row, given all rows so far, is at most

.. math:: c = \frac{\sum_i f(x_i) + \max f}{n + N + 1},

in all columns at once, whatever the dependence between them (a column of such rows is a Polya
urn). The price is c, or what the reference alone gives if that is more (after a quieter time a
return to the reference is no change), at most the limit that the reference allows (so that a
change which the rows learn as it comes is not hidden), and `tolerance` (max f - min f) on top.

The m rows of one step learn nothing from one another, so their product is dearer than c^m. With
a second moment of at most a c^2 and max f = g c, the m-th moment of a Dirichlet process of mass A
is at most that of a constant plus a gamma variable of the same first two moments, and by that
one's recurrence

.. math:: E \prod f \le c^m \prod_{i<m} \frac{A + i\alpha}{A + i}, \quad
          \alpha = a + (g - a) \frac{m g}{A + m g}.

Shapes: S steps, C columns, B bins, J bets of all columns, M bets of one column.

References:
    Ferguson, *A Bayesian analysis of some nonparametric problems* (1973); Blackwell, MacQueen,
    *Ferguson distributions via Polya urn schemes* (1973). docs/monitoring.md derives the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monitoring.bets import Floats
from monitoring.portfolio import Portfolio

_LOG_GRID = 2.0**-32  # of log factors, and
_GRID = 2.0**-16  # of factors: sums of them are exact in any order, for a billion rows
PRIOR = 1.0  # rows that may lie wherever they make a bet dearest


@dataclass(frozen=True)
class Stakes:
    """A portfolio laid out so that many steps of evidence are a few matrix products.

    Columns with equally many bets are one group. What is known of the bets, from `known` on, is in
    the order of the groups, so that a group's results lie side by side.

    Args:
        groups: Of each group the indices of its columns (G,), and what a row in each bin adds to
            the log factors and to the factors, (G, B, M).
        place: (J,) where each of the portfolio's bets is in that order.
        columns: Those that have fixed bets, ascending.
        starts: Where the bets of each of these begin in the portfolio.
        known: (J,) sum of the factors of the reference's rows, the prior's included.
        sizes: (U,) how many rows these are, each number once.
        of_size: (U, J) 1 where a bet's column has so many, else 0.
        own: (J,) the mean factor of these rows.
        low: (J,) the least factor.
        high: (J,) the largest.
        limit: (J,) as `Portfolio` gives it.
        slack: (J,) what the tolerated total variation adds to a mean.
    """

    groups: tuple[tuple[NDArray[np.int64], Floats, Floats], ...]
    place: NDArray[np.int64]
    columns: NDArray[np.int64]
    starts: NDArray[np.int64]
    known: Floats
    sizes: Floats
    of_size: Floats
    own: Floats
    low: Floats
    high: Floats
    limit: Floats
    slack: Floats

    @classmethod
    def of(cls, portfolio: Portfolio, reference: Floats, tolerance: float) -> Stakes:
        """The layout of a portfolio whose bets are in the order of their columns.

        What a bin pays is rounded down and what it costs up, to grids on which sums over rows
        are exact: a bet only gets smaller, so it stays fair, and evidence depends on the rows
        alone, not on how they came.

        Args:
            portfolio: The bets.
            reference: (C, B) rows of the reference.
            tolerance: Total variation that counts as unchanged.
        """
        logs = np.floor(np.log(portfolio.factors) / _LOG_GRID) * _LOG_GRID
        factors = np.ceil(portfolio.factors / _GRID) * _GRID
        repeats = np.bincount(portfolio.owner, minlength=len(reference))
        starts = np.cumsum(repeats) - repeats
        groups, order = [], [np.zeros(0, dtype=np.int64)]
        for bets in sorted(set(repeats.tolist()) - {0}):
            members = np.flatnonzero(repeats == bets)
            slots = starts[members][:, None] + np.arange(bets)
            tables = (part[slots].transpose(0, 2, 1) for part in (logs, factors))
            log_table, table = (np.ascontiguousarray(part) for part in tables)
            groups.append((members, log_table, table))
            order.append(slots.ravel())
        bet = np.concatenate(order)
        factors, own = factors[bet], reference[portfolio.owner[bet]]
        low, high = factors.min(axis=1, initial=np.inf), factors.max(axis=1, initial=0.0)
        known, size = (factors * own).sum(axis=1) + PRIOR * high, own.sum(axis=1) + PRIOR
        sizes = np.unique(size)
        present = np.flatnonzero(repeats)
        return cls(
            tuple(groups),
            np.argsort(bet),
            present,
            starts[present],
            known,
            sizes,
            (sizes[:, None] == size).astype(np.float64),
            known / size,
            low,
            high,
            portfolio.limit[bet],
            tolerance * (high - low),
        )

    def gains(self, pool: Floats, rows: int, counts: Floats, sizes: ArrayLike) -> Floats:
        """The log factor of each fixed bet in each step, price paid, (S, J).

        Args:
            pool: (C, B) rows that came before the first step.
            rows: How many they are.
            counts: (S, C, B) rows of each step in each bin.
            sizes: (S,) rows of each step.
        """
        before = np.concatenate([pool[None], counts[:-1]]).cumsum(axis=0).transpose(1, 0, 2)
        by_column = counts.transpose(1, 0, 2)
        won = np.empty((len(counts), len(self.known)))
        sums = np.empty_like(won)  # of factors in all rows before each step
        end = 0
        for members, logs, factors in self.groups:
            start, end = end, end + len(members) * logs.shape[2]
            for target, source, table in ((won, by_column, logs), (sums, before, factors)):
                own = target[:, start:end].reshape(len(counts), len(members), -1)
                np.matmul(source[members], table, out=own.transpose(1, 0, 2))
        m = np.asarray(sizes, dtype=np.float64)[:, None]
        won -= self._cost(sums, rows + m.cumsum(axis=0) - m, m)
        return won.take(self.place, axis=1)

    def _cost(self, sums: Floats, rows: Floats, m: Floats) -> Floats:
        """Log of what the product of m rows' factors can be expected to be, (S, J)."""
        # With c the mean, a second moment of at most the chord's (mass at the least and the largest
        # factor alone) makes alpha - 1 = (h / c - 1) (1 - l / (c + h m / A)). Every operation
        # passes over all bets of all steps: hence this form, and those in place.
        sizes = self.sizes + rows  # (S, U)
        learnt = m - sizes * np.log1p(m / sizes)  # at least the sum of i / (A + i), i < m
        mean = np.add(sums, self.known, out=sums)
        mean /= sizes @ self.of_size
        np.maximum(mean, self.own, out=mean)
        np.minimum(mean, self.limit, out=mean)
        spare = (m / sizes) @ self.of_size
        spare *= self.high
        spare += mean
        np.divide(self.low, spare, out=spare)
        np.subtract(1.0, spare, out=spare)
        surge = self.high / mean
        surge -= 1.0
        surge *= spare
        surge *= learnt @ self.of_size
        mean += self.slack
        np.log(mean, out=mean)
        mean *= m
        mean += surge
        return mean

    def highest(self, climbs: Floats) -> Floats:
        """The largest value of each column's bets, (S, C), of all bets' values.

        Args:
            climbs: (S, J + C) those of the fixed bets, then one of each column: its learning bet's.
        """
        bets = len(self.known)
        highest = climbs[:, bets:].copy()
        if len(self.columns):
            fixed = np.maximum.reduceat(climbs[:, :bets], self.starts, axis=1)
            highest[:, self.columns] = np.maximum(highest[:, self.columns], fixed)
        return highest
