"""Learning something new without losing what was learnt.

A strategy is a function of the kind `models.strategies.Strategy`, named in `STRATEGIES`. It trains
a copy: the champion that it starts from goes on serving untouched.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from homeostat.errors import SettingsError
from models.learner import Budget, Examples, FitReport, Learner
from models.memory import Memory
from models.strategies import STRATEGIES, Training


def retrain(
    learner: Learner,
    champion: nn.Module,
    new: Examples,
    memory: Memory | None,
    strategy: str,
    budget: Budget,
    seed: int,
) -> tuple[nn.Module, FitReport]:
    """Train a copy of the champion on new rows, starting from its weights.

    Args:
        learner: Whose model it is.
        champion: Left bit for bit as it is.
        new: The rows of the new regime.
        memory: Kept rows of all former regimes; needed by the strategies that read it.
        strategy: A name of `STRATEGIES`.
        budget: What the training may spend.
        seed: The same seed, data and champion give bitwise the same weights.

    Returns:
        The candidate and what its training did.

    Raises:
        SettingsError: there is no such strategy, or the learner cannot be trained by it.
        DataError: nothing to learn from, or no memory to read.
        LearnerError: the learner failed.
    """
    if strategy not in STRATEGIES:
        raise SettingsError(
            f"There is no retraining strategy '{strategy}'.",
            remedy=f"Use one of {', '.join(STRATEGIES)}.",
        )
    candidate = copy.deepcopy(champion)
    generator = torch.Generator().manual_seed(seed)
    training = Training(learner, candidate, new, memory, budget, generator)
    return candidate, STRATEGIES[strategy](training)
