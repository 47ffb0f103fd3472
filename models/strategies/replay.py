"""Experience replay (ER), balanced over classes, with the old answers beside the truth.

Chaudhry et al. 2019, *On tiny episodic memories in continual learning*, section 3: half of each
step's rows come from the memory; here every class is equally likely. Menon et al. 2021 (section 4)
give the logit adjustment that undoes what this balance does to rare classes, Li and Hoiem 2016
(section 3) the distillation, with a temperature of 2. It is for the replayed rows only: on drifted
inputs the old answers are the old mistakes.

    objective = loss(f(x) + shift, y) + 1/2 distil(f(x_replayed), f_before(x_replayed))
"""

from __future__ import annotations

import torch
from torch import nn

from models.learner import Budget, Examples, FitReport, Learner
from models.memory import Memory
from models.strategies.contract import remembered
from models.torch_learner import guarded


def replay(
    learner: Learner,
    candidate: nn.Module,
    new: Examples,
    memory: Memory | None,
    budget: Budget,
    generator: torch.Generator,
) -> FitReport:
    """As `Strategy`.

    Raises:
        DataError: there is no memory.
    """
    return guarded(learner.fit, candidate, new, remembered(memory), budget, generator)
