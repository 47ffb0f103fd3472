"""Rows that lie in several tensors, some of them mapped from a file, without being copied together.

Shapes: N rows, D columns, P parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_CHUNK = 1 << 12  # rows that are brought together at once


@dataclass(frozen=True)
class Scattered:
    """N rows (N, D) by where they lie.

    Args:
        parts: P tensors (n, D) of one kind.
        where: (N, 2), the part of each row and its place there.
    """

    parts: tuple[Tensor, ...]
    where: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Tensor) -> Scattered:
        """The rows of one tensor, as they lie."""
        places = np.arange(len(rows))
        return cls((rows,), np.stack([np.zeros_like(places), places], axis=1))

    def __len__(self) -> int:
        return len(self.where)

    def joined(self, rows: Tensor) -> Scattered:
        """These and the rows of one more tensor."""
        more = Scattered.of(rows).where
        more[:, 0] = len(self.parts)
        return Scattered((*self.parts, rows), np.concatenate([self.where, more]))

    def taken(self, places: NDArray[np.int64]) -> Scattered:
        """The rows at these places, in this order; parts of which nothing is left are let go.

        What is left of a part that is no file's is copied, so that the others are let go too.
        """
        where = self.where[places]
        parts, numbers = list[Tensor](), {}
        for number, part in enumerate(self.parts):
            mine = where[:, 0] == number
            if not mine.any():
                continue
            numbers[number] = len(parts)
            if number and int(mine.sum()) < len(part):
                part = part[torch.from_numpy(where[mine, 1])]
                where[mine, 1] = np.arange(len(part))
            parts.append(part)
        where[:, 0] = [numbers[number] for number in where[:, 0].tolist()]
        return Scattered(tuple(parts), where)

    def together(self) -> Tensor:
        """All rows (N, D): where they are a whole part as it lies, that very tensor."""
        whole = len(self.parts) == 1 and len(self) == len(self.parts[0])
        if whole and np.array_equal(self.where[:, 1], np.arange(len(self))):
            return self.parts[0]
        return torch.cat(list(self.chunks()))

    def chunks(self) -> Iterator[Tensor]:
        """All rows in order, some at a time."""
        for start in range(0, len(self), _CHUNK):
            where = self.where[start : start + _CHUNK]
            rows = torch.empty(len(where), *self.parts[0].shape[1:], dtype=self.parts[0].dtype)
            for number in np.unique(where[:, 0]).tolist():
                mine = torch.from_numpy(where[:, 0] == number)
                rows[mine] = self.parts[number][torch.from_numpy(where[mine.numpy(), 1])]
            yield rows
