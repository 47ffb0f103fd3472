"""Experience replay (ER), balanced over classes, with the old answers beside the truth.

Chaudhry et al. 2019, *On tiny episodic memories in continual learning*, section 3: half of each
step's rows come from the memory; here every class is equally likely. Menon et al. 2021 (section 4)
give the logit adjustment that undoes what this balance does to rare classes, Li and Hoiem 2016
(section 3) the distillation, with a temperature of 2. It is for the replayed rows only: on drifted
inputs the old answers are the old mistakes.

    objective = loss(f(x) + shift, y) + 1/2 distil(f(x_replayed), f_before(x_replayed))
"""

from __future__ import annotations

from models.learner import FitReport
from models.strategies.contract import Training


def replay(training: Training) -> FitReport:
    """As `Strategy`.

    Raises:
        DataError: there is no memory.
    """
    return training.fit(training.remembered())
