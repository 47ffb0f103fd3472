"""ER-ACE, replay with an asymmetric cross-entropy: new rows push their own classes only.

Caccia et al. 2022, *New insights on reducing abrupt representation change in online continual
learning*, section 4. The softmax of a new row is over the classes among the step's new rows, so
that its gradient does not push down the classes learnt before; that of a replayed row is over all
classes. As there, new rows are in the memory while they are learnt: a copy of it takes them in.

    objective = B / (B + R) loss(f(x) on the new rows' classes, y) + R / (B + R) loss(f(x_r), y_r)

For a regression nothing is masked.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from models.learner import Examples, FitReport
from models.objectives import Ground, Objective, Step
from models.strategies.contract import Training


def er_ace(training: Training) -> FitReport:
    """As `Strategy`.

    Raises:
        DataError: there is no memory.
        SettingsError: the learner takes no objective.
    """
    return training.fit_by(asymmetric, _with_new(training))


def asymmetric(ground: Ground) -> Objective:
    """The objective of the module's docstring."""

    def objective(step: Step) -> Tensor:
        count = len(step.rows)
        new, old = step.outputs[:count], step.outputs[count:]
        of_new = ground.plain(own_classes_only(new, step.y[:count]), step.y[:count])
        if not len(old):
            return of_new
        of_old = ground.plain(old, step.y[count:])
        return (count * of_new + len(old) * of_old) / len(step.y)

    return objective


def own_classes_only(logits: Tensor, y: Tensor) -> Tensor:
    """Logits (B, C), minus infinity for the classes that no row of these is of."""
    if y.is_floating_point():
        return logits
    absent = torch.ones(logits.shape[1], dtype=torch.bool)
    absent[y] = False
    return logits.masked_fill(absent, -torch.inf)


def _with_new(training: Training) -> Examples:
    """The rows of the memory as it will be once the new ones have passed."""
    after, new = copy.deepcopy(training.filled_memory()), training.new
    number = int(after.examples().regime.max()) + 1
    after.add(Examples(new.x, new.y, regime=torch.full((len(new),), number)))
    return after.examples()
