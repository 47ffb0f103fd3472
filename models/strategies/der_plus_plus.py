"""DER++, dark experience replay: the memory's rows keep the truth and what was said of them.

Buzzega et al. 2020, *Dark experience for general continual learning: a strong, simple baseline*,
section 3, equation 6. The stored logits are the champion's on the rows of the memory. Unlike there
the truths' part has the logit adjustment of `replay`, since replay is balanced.

    objective = loss(f(x) + shift, y) + ALPHA mean((f(x_replayed) - f_before(x_replayed))^2)
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from models.learner import FitReport
from models.objectives import Ground, Objective, held_to_before
from models.strategies.contract import Training

ALPHA = 0.25  # half of their 0.5, as each half of a step's rows has half the weight in `loss`


def der_plus_plus(training: Training) -> FitReport:
    """As `Strategy`.

    Raises:
        DataError: there is no memory.
        SettingsError: the learner takes no objective.
    """
    return training.fit_by(dark, training.remembered())


def dark(ground: Ground) -> Objective:
    """The objective of the module's docstring; values are compared in units of `scale`."""

    def distance(outputs: Tensor, before: Tensor) -> Tensor:
        return functional.mse_loss(outputs / ground.scale, before / ground.scale)

    return held_to_before(ground.loss, distance, ALPHA)
