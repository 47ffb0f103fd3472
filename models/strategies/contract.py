"""The contract of a strategy, and the parts that several share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from homeostat.errors import DataError, SettingsError
from models.learner import Budget, Examples, FitReport, Learner
from models.memory import Memory
from models.objectives import Recipe
from models.torch_learner import TorchLearner, guarded

Strategy = Callable[
    [Learner, nn.Module, Examples, Memory | None, Budget, torch.Generator], FitReport
]
"""Trains a copy of the champion in place: learner, copy, new rows, memory, budget, randomness."""


def remembered(memory: Memory | None) -> Examples:
    """The rows of the memory.

    Raises:
        DataError: there is none.
    """
    if memory is None or not len(memory):
        raise DataError(
            "There is no replay memory, so what was learnt would be lost.",
            remedy="Give the champion's memory, or choose the strategy fine-tune.",
        )
    return memory.examples()


def fit_by(
    recipe: Recipe,
    learner: Learner,
    candidate: nn.Module,
    new: Examples,
    replay: Examples | None,
    budget: Budget,
    generator: torch.Generator,
) -> FitReport:
    """Train with an objective of the strategy's own.

    Raises:
        SettingsError: the learner's training is its own and takes no objective.
    """
    if not isinstance(learner, TorchLearner):
        raise SettingsError(
            f"{type(learner).__name__} trains by a loop of its own, and this strategy needs ours.",
            remedy="Use replay, fine-tune or weight-averaging, or derive it from TorchLearner.",
        )
    return guarded(learner.fit_by, recipe, candidate, new, replay, budget, generator)
