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

    Args:
        groups: For columns with equally many bets: their indices (G,), where their bets are
            among all (G * M,), their log factors and their factors (G, B, M).
        columns: Those that have fixed bets, ascending.
        starts: Where the bets of each of these begin.
        known: (J,) sum of the factors of the reference's rows, the prior's included.
        sizes: (U,) how many rows these are, each number once.
        of_size: (J,) which of them is whose.
        own: (J,) the mean factor of these rows.
        low: (J,) the least factor.
        high: (J,) the largest.
        limit: (J,) as `Portfolio` gives it.
        slack: (J,) what the tolerated total variation adds to a mean.
    """

    groups: tuple[tuple[NDArray[np.int64], NDArray[np.int64], Floats, Floats], ...]
    columns: NDArray[np.int64]
    starts: NDArray[np.int64]
    known: Floats
    sizes: Floats
    of_size: NDArray[np.int64]
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
        columns = len(reference)
        repeats = np.bincount(portfolio.owner, minlength=columns)
        starts = np.cumsum(repeats) - repeats
        groups = []
        for bets in sorted(set(repeats.tolist()) - {0}):
            members = np.flatnonzero(repeats == bets)
            slots = (starts[members][:, None] + np.arange(bets)).ravel()
            shape = (len(members), bets, logs.shape[1])
            tables = (part[slots].reshape(shape).transpose(0, 2, 1) for part in (logs, factors))
            log_table, table = (np.ascontiguousarray(part) for part in tables)
            groups.append((members, slots, log_table, table))
        present = np.flatnonzero(repeats)
        own = reference[portfolio.owner]
        low, high = factors.min(axis=1, initial=np.inf), factors.max(axis=1, initial=0.0)
        known, size = (factors * own).sum(axis=1) + PRIOR * high, own.sum(axis=1) + PRIOR
        sizes, of_size = np.unique(size, return_inverse=True)
        return cls(
            tuple(groups),
            present,
            starts[present],
            known,
            sizes,
            of_size,
            known / size,
            low,
            high,
            portfolio.limit,
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
        won = np.empty((len(counts), len(self.known)))
        sums = np.empty((len(counts), len(self.known)))  # of factors in all rows before each step
        before = np.concatenate([pool[None], counts[:-1]]).transpose(1, 0, 2)
        by_column = counts.transpose(1, 0, 2)
        for members, slots, logs, factors in self.groups:
            for target, source, table in ((won, by_column, logs), (sums, before, factors)):
                product = source[members] @ table  # (G, S, M)
                target[:, slots] = product.transpose(1, 0, 2).reshape(len(counts), -1)
        m = np.asarray(sizes, dtype=np.float64)[:, None]
        return won - self._cost(sums.cumsum(axis=0), rows + m.cumsum(axis=0) - m, m)

    def _cost(self, sums: Floats, rows: Floats, m: Floats) -> Floats:
        """Log of what the product of m rows' factors can be expected to be, (S, J)."""
        # With c the mean, a second moment of at most the chord's (mass at the least and the largest
        # factor alone) makes alpha - 1 = (h - c) / c^2 (c - l + l m h / (A c + m h)). Every
        # operation passes over all bets of all steps: hence this form, and those in place.
        sizes = self.sizes + rows  # (S, U)
        learnt = m - sizes * np.log1p(m / sizes)  # at least the sum of i / (A + i), i < m
        mass = sizes.take(self.of_size, axis=1)
        mean = sums + self.known
        mean /= mass
        np.maximum(mean, self.own, out=mean)
        np.minimum(mean, self.limit, out=mean)
        largest = m * self.high
        surge = np.multiply(mass, mean, out=mass)
        surge += largest
        np.divide(largest, surge, out=surge)
        surge *= self.low
        surge += mean
        surge -= self.low
        surge *= self.high - mean
        surge /= mean * mean
        surge *= learnt.take(self.of_size, axis=1)
        mean += self.slack
        np.log(mean, out=mean)
        mean *= m
        mean += surge
        return mean

    def highest(self, climbs: Floats) -> Floats:
        """The largest value of each column's bets, (C,), of all bets' values.

        Args:
            climbs: Values of the fixed bets, then one more of each column: its learning bet's.
        """
        bets = len(self.known)
        highest = climbs[bets:].copy()
        if len(self.columns):
            fixed = np.maximum.reduceat(climbs[:bets], self.starts)
            highest[self.columns] = np.maximum(highest[self.columns], fixed)
        return highest
