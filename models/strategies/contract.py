"""The contract of a strategy: a training to carry out, by whatever objective and rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from homeostat.errors import DataError, SettingsError
from models.learner import Budget, Examples, FitReport, Learner
from models.memory import Memory
from models.objectives import Recipe
from models.torch_learner import TorchLearner, guarded


@dataclass(frozen=True)
class Training:
    """A retrain to be carried out.

    Args:
        learner: Whose model it is.
        candidate: A copy of the champion, trained in place.
        new: The rows of the new regime.
        memory: Kept rows of all former regimes; None: there is none.
        budget: What may be spent.
        generator: The only source of randomness.
    """

    learner: Learner
    candidate: nn.Module
    new: Examples
    memory: Memory | None
    budget: Budget
    generator: torch.Generator

    def filled_memory(self) -> Memory:
        """The memory.

        Raises:
            DataError: there is none, or nothing in it.
        """
        if self.memory is None or not len(self.memory):
            raise DataError(
                "There is no replay memory, so what was learnt would be lost.",
                remedy="Give the champion's memory, or choose the strategy fine-tune.",
            )
        return self.memory

    def remembered(self) -> Examples:
        """The rows of the memory.

        Raises:
            DataError: there is none.
        """
        return self.filled_memory().examples()

    def fit(self, replay: Examples | None) -> FitReport:
        """Train as the learner does, with rows to replay or without."""
        return guarded(
            self.learner.fit, self.candidate, self.new, replay, self.budget, self.generator
        )

    def fit_by(self, recipe: Recipe, replay: Examples | None) -> FitReport:
        """Train with an objective of the strategy's own.

        Raises:
            SettingsError: the learner's training is its own and takes no objective.
        """
        if not isinstance(self.learner, TorchLearner):
            raise SettingsError(
                f"{type(self.learner).__name__} trains by a loop of its own, and this strategy"
                " needs ours.",
                remedy="Use replay, fine-tune or weight-averaging, or derive it from TorchLearner.",
            )
        return guarded(
            self.learner.fit_by,
            recipe,
            self.candidate,
            self.new,
            replay,
            self.budget,
            self.generator,
        )


Strategy = Callable[[Training], FitReport]
"""Carries out a training; the candidate is what it made."""
