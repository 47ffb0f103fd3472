"""Training on the new rows alone: the control, which forgets.

objective = loss(f(x), y)
"""

from __future__ import annotations

import torch
from torch import nn

from models.learner import Budget, Examples, FitReport, Learner
from models.memory import Memory
from models.torch_learner import guarded


def fine_tune(
    learner: Learner,
    candidate: nn.Module,
    new: Examples,
    memory: Memory | None,  # noqa: ARG001 - the signature of a strategy
    budget: Budget,
    generator: torch.Generator,
) -> FitReport:
    """As `Strategy`; the memory is not read."""
    return guarded(learner.fit, candidate, new, None, budget, generator)
