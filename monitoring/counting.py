"""How many values fall into which bin, counted by the bounds that they pass.

Numpy compares eight values in one instruction, but moves or looks up one at a time. So no value's
bin is written: whole columns are compared with each of their bounds, and what comes out, a byte a
value, is added up eight at a time.

Shapes: n values of a column, G columns of a group, L bounds of a column, S steps, B bins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

BLOCK = 2_040  # values of a column at once: 255 words of 8, no more than a word's bytes can add
_LONG = 256  # values from which numpy had better not copy what it compares to its buffer
_TOGETHER = 32  # columns compared at once: what comes out stays in a cache


class Group:
    """Columns whose values start in one bin and are moved to another by each bound they pass.

    Args:
        columns: Which of all columns they are.
        passes: What a value must be to a bound to pass it.
        bounds: Of each column.
        start: (G,) the bin of a value that passes nothing.
        origin: (G, L) the bin that a bound moves a value from.
        target: (G, L) the bin that it moves it to.
    """

    def __init__(
        self,
        columns: Sequence[int],
        passes: np.ufunc,
        bounds: Sequence[Sequence[float]],
        start: Counts,
        origin: Counts,
        target: Counts,
    ) -> None:
        self.columns = np.array(columns, dtype=np.intp)
        self.shape = target.shape
        self._passes = passes
        self._bounds = np.full((*target.shape, 1), np.nan)  # which nothing passes
        for place, own in enumerate(bounds):
            self._bounds[place, : len(own), 0] = own
        self._start, self._origin, self._target = start[:, None], origin, target
        moved = target - origin
        self._sums = np.min_scalar_type(-1 - target.shape[1])  # holds what they add up to
        self._moved = None if (moved == 1).all() else moved.astype(self._sums)[..., None]

    @classmethod
    def of_edges(cls, columns: Sequence[int], edges: Sequence[Sequence[float]]) -> Group:
        """Numeric columns: each edge moves a value from the bin below it to the next."""
        most = max(len(own) for own in edges)
        origin = np.tile(np.arange(most), (len(columns), 1))
        start = np.zeros(len(columns), dtype=np.int64)
        return cls(columns, np.greater_equal, edges, start, origin, origin + 1)

    @classmethod
    def of_codes(cls, columns: Sequence[int], codes: Sequence[Sequence[int]]) -> Group:
        """Categorical columns: a code moves a value from the bin of all others to its own."""
        most = max(len(own) for own in codes)
        others = np.array([len(own) for own in codes])
        target = np.tile(np.arange(most), (len(columns), 1))
        return cls(columns, np.equal, codes, others, others[:, None] + 0 * target, target)

    def indices(self, values: Floats) -> Counts:
        """The bin of each value if all are finite, (G, n).

        Args:
            values: (G, n).
        """
        moves = self._passed(values, values.shape[1]).view(np.int8)
        if self._moved is not None:
            moves = moves * self._moved
        return np.asarray(self._start + np.add.reduce(moves, axis=1, dtype=self._sums))

    def passed(self, values: Floats) -> Counts:
        """How many values pass each bound, (G, L).

        Args:
            values: (G, n), n at most BLOCK; NaN passes nothing.
        """
        words, sums = -(-values.shape[1] // 8), []
        for first in range(0, len(values), _TOGETHER):
            some = slice(first, first + _TOGETHER)
            passed = self._passed(values[some], words * 8, some)
            sums.append(np.add.reduce(passed.view(np.uint64), axis=2))
        by_byte = np.concatenate(sums).view(np.uint8).reshape(*self.shape, 8)
        return np.asarray(by_byte.sum(axis=2, dtype=np.int64))

    def count(self, passed: Counts, finite: Counts, bins: int) -> Counts:
        """How many values are in each bin, (S, G, B).

        Args:
            passed: (S, G, L) how many pass each bound.
            finite: (S, G) how many there are.
            bins: B.
        """
        counts = np.zeros((len(self.columns), bins, len(passed)), dtype=np.int64)
        rows = np.arange(len(self.columns))[:, None]
        np.add.at(counts, (rows, self._start), finite.T[:, None])
        np.add.at(counts, (rows, self._target), passed.transpose(1, 2, 0))
        np.subtract.at(counts, (rows, self._origin), passed.transpose(1, 2, 0))
        return counts.transpose(2, 0, 1)

    def _passed(self, values: Floats, width: int, part: slice = slice(None)) -> NDArray[np.bool_]:
        """Which value passes which bound, (G, L, width), False beyond the values.

        Args:
            values: (G, n).
            width: n or more.
            part: Which columns of the group they are, if not all.
        """
        count, bounds = values.shape[1], self._bounds[part]
        passed = np.empty((*bounds.shape[:2], width), dtype=np.bool_)
        passed[..., count:] = False
        with np.errstate():  # at whose end numpy's buffer has its size again
            if count >= _LONG:
                np.setbufsize(16)
            self._passes(values[:, None], bounds, out=passed[..., :count])
        return passed
