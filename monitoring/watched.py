"""Rows of all watched columns as they are given, and as the arrays that they are counted from.

Shapes: N rows, F features, F + 2 columns: the features, then `predicted` and `confidence`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from homeostat.errors import InputError
from monitoring.counting import BLOCK, Counts, Floats


@dataclass(frozen=True)
class Watched:
    """Rows of all watched columns, not yet in one array.

    Args:
        observed: (N, F).
        predicted: (N,).
        confidence: (N,).
    """

    observed: Floats
    predicted: Floats
    confidence: Floats

    @classmethod
    def of(
        cls, observed: ArrayLike, predicted: ArrayLike, confidence: ArrayLike, features: int
    ) -> Watched:
        """These, as they are given.

        Raises:
            InputError: a shape that does not fit.
        """
        rows = np.asarray(observed, dtype=np.float64)
        first, second = (
            np.asarray(part, dtype=np.float64).ravel() for part in (predicted, confidence)
        )
        if not (rows.ndim == 2 and rows.shape == (len(first), features) == (len(second), features)):
            raise InputError(
                f"Observed {rows.shape}, predicted {len(first)} and confidence {len(second)} "
                f"rows do not fit a profile of {features} features."
            )
        return cls(rows, first, second)

    def __len__(self) -> int:
        return len(self.predicted)

    def columns(self, start: int, end: int) -> Floats:
        """The columns of some rows, (F + 2, rows)."""
        return self._placed(start, end, np.arange(self.observed.shape[1] + 2))

    def blocks(self, start: int, end: int, places: Counts) -> Iterator[Floats]:
        """The columns of these rows, a few thousand rows after the other, which a cache can hold.

        Args:
            start: The first row.
            end: The first row that is no longer taken.
            places: (F + 2,) where in a block each column is to stand.
        """
        return (self._placed(at, min(at + BLOCK, end), places) for at in range(start, end, BLOCK))

    def _placed(self, start: int, end: int, places: Counts) -> Floats:
        columns = np.empty((len(places), end - start))
        columns[places[:-2]] = self.observed[start:end].T
        columns[places[-2]] = self.predicted[start:end]
        columns[places[-1]] = self.confidence[start:end]
        return columns
