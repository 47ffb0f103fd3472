"""Learning without forgetting (LwF): no memory, the champion's answers on the new rows.

Li and Hoiem 2016, *Learning without forgetting*, section 3, with their temperature of 2 and
weight of 1. Where inputs drift the champion is wrong about the new rows, and this teaches its
mistakes.

    objective = loss(f(x), y) + distil(f(x), f_before(x))
"""

from __future__ import annotations

from torch import Tensor

from models.learner import FitReport
from models.objectives import Ground, Objective, Step, said
from models.strategies.contract import Training

WEIGHT = 1.0


def distillation(training: Training) -> FitReport:
    """As `Strategy`; the memory is not read.

    Raises:
        SettingsError: the learner takes no objective.
    """
    return training.fit_by(without_forgetting, None)


def without_forgetting(ground: Ground) -> Objective:
    """The objective of the module's docstring."""
    before = said(ground.model, ground.data.x)

    def objective(step: Step) -> Tensor:
        old_answers = ground.distil(step.outputs, before[step.rows])
        return ground.plain(step.outputs, step.y) + WEIGHT * old_answers

    return objective
