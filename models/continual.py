"""Learning something new without losing what was learnt.

A strategy is a function of the kind `Strategy`, named in `STRATEGIES`. It trains a copy: the
champion that it starts from goes on serving untouched.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import nn

from homeostat.errors import DataError, SettingsError
from models.learner import Budget, Examples, FitReport, Learner
from models.memory import Memory
from models.torch_learner import guarded

Strategy = Callable[
    [Learner, nn.Module, Examples, Memory | None, Budget, torch.Generator], FitReport
]


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
        memory: Kept rows of all former regimes; needed by `replay`.
        strategy: A name of `STRATEGIES`.
        budget: What the training may spend.
        seed: The same seed, data and champion give bitwise the same weights.

    Returns:
        The candidate and what its training did.

    Raises:
        SettingsError: there is no such strategy.
        DataError: nothing to learn from, or nothing to replay.
        LearnerError: the learner failed.
    """
    if strategy not in STRATEGIES:
        raise SettingsError(
            f"There is no retraining strategy '{strategy}'.",
            remedy=f"Use one of {', '.join(STRATEGIES)}.",
        )
    candidate = copy.deepcopy(champion)
    generator = torch.Generator().manual_seed(seed)
    report = STRATEGIES[strategy](learner, candidate, new, memory, budget, generator)
    return candidate, report


def replay(
    learner: Learner,
    candidate: nn.Module,
    new: Examples,
    memory: Memory | None,
    budget: Budget,
    generator: torch.Generator,
) -> FitReport:
    """Experience replay (Chaudhry et al. 2019) with distillation on the replayed rows.

    Half of each step's rows come from the memory, every class equally likely; on these the
    candidate is also held to the champion's answers (Li and Hoiem 2016). `models.training` has
    the equation.
    """
    if memory is None or not len(memory):
        raise DataError(
            "There is no replay memory, so what was learnt would be lost.",
            remedy="Give the champion's memory, or choose the strategy fine-tune.",
        )
    return guarded(learner.fit, candidate, new, memory.examples(), budget, generator)


def fine_tune(
    learner: Learner,
    candidate: nn.Module,
    new: Examples,
    memory: Memory | None,  # noqa: ARG001 - the signature of a strategy
    budget: Budget,
    generator: torch.Generator,
) -> FitReport:
    """Train on the new rows alone: the control, which forgets."""
    return guarded(learner.fit, candidate, new, None, budget, generator)


STRATEGIES: Mapping[str, Strategy] = MappingProxyType({"replay": replay, "fine-tune": fine_tune})
