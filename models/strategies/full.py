"""Full retrain: weights drawn anew, and learnt from the memory and the new rows alike.

objective = loss(f(x), y) over both, from another start than the champion

It costs the most and owes the champion nothing: for where its weights are a bad place to go on
from. Of former regimes it knows only what the memory kept, so give `memory_rows` room for them, and
`epochs` what a training from nothing takes.
"""

from __future__ import annotations

import torch

from models.learner import Examples, FitReport
from models.strategies.contract import Training
from models.torch_learner import guarded


def full(training: Training) -> FitReport:
    """As `Strategy`.

    Raises:
        DataError: there is no memory.
        LearnerError: the learner does not build what it built before.
    """
    learner, new, old = training.learner, training.new, training.remembered()
    rows = Examples(torch.cat([new.x, old.x]), torch.cat([new.y, old.y]))
    fresh = guarded(learner.build, training.generator)
    guarded(training.candidate.load_state_dict, fresh.state_dict())
    candidate, budget, generator = training.candidate, training.budget, training.generator
    return guarded(learner.fit, candidate, rows, None, budget, generator)
