"""A learner whose encoded rows can stand for themselves: what a frozen head learns from.

Shapes: N rows, D encoded columns, E represented columns.
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from models.torch_learner import TorchLearner


class Encoder(TorchLearner):
    """Besides training a module of its own it can say what a row is in numbers of one scale."""

    @property
    @abstractmethod
    def represented(self) -> int:
        """E."""

    @abstractmethod
    def represent(self, batch: Tensor) -> Tensor:
        """Encoded rows (N, D) as finite numbers (N, E) of about one scale."""

    @property
    def grid(self) -> tuple[int, int] | None:
        """Height and width where a represented row is an image, row by row, of E pixels."""
        return None
