"""Rows of all watched columns as they are given, and as the arrays that they are counted from.

Shapes: N rows, F features, F + 2 columns: the features, then `predicted` and `confidence`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from homeostat.errors import InputError
from monitoring.counting import BLOCK, Floats


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
        features = self.observed.shape[1]
        columns = np.empty((features + 2, end - start))
        columns[:features] = self.observed[start:end].T
        columns[features] = self.predicted[start:end]
        columns[features + 1] = self.confidence[start:end]
        return columns

    def blocks(self, start: int, end: int) -> Iterator[Floats]:
        """`columns` of these rows, a few thousand rows after the other, which a cache can hold."""
        return (self.columns(at, min(at + BLOCK, end)) for at in range(start, end, BLOCK))
