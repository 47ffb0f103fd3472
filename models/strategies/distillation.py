"""Learning without forgetting (LwF): no memory, the champion's answers on the new rows.

Li and Hoiem 2016, *Learning without forgetting*, section 3, with their temperature of 2 and
weight of 1. Where inputs drift the champion is wrong about the new rows, and this teaches its
mistakes.

    objective = loss(f(x), y) + distil(f(x), f_before(x))
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.learner import Budget, Examples, FitReport, Learner
from models.memory import Memory
from models.objectives import Ground, Objective, Step, said
from models.strategies.contract import fit_by

WEIGHT = 1.0


def distillation(
    learner: Learner,
    candidate: nn.Module,
    new: Examples,
    memory: Memory | None,  # noqa: ARG001 - the signature of a strategy
    budget: Budget,
    generator: torch.Generator,
) -> FitReport:
    """As `Strategy`; the memory is not read.

    Raises:
        SettingsError: the learner takes no objective.
    """
    return fit_by(without_forgetting, learner, candidate, new, None, budget, generator)


def without_forgetting(ground: Ground) -> Objective:
    """The objective of the module's docstring."""
    before = said(ground.model, ground.data.x)

    def objective(step: Step) -> Tensor:
        old_answers = ground.distil(step.outputs, before[step.rows])
        return ground.plain(step.outputs, step.y) + WEIGHT * old_answers

    return objective
