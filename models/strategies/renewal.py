"""Going on or beginning anew, whichever does better: for changes that turn the truth round.

Three candidates learn four fifths of the different new rows: the champion's copy; weights drawn
anew; and weights drawn anew with the memory's rows of the same regime, which are those that the
retrain before learnt. The one with the least loss on the last fifth is trained once more, on all.

objective = loss(f(x), y)

Weights that learnt a world can be a bad place to learn its opposite from: they take many steps
and end in a worse place than new ones do (*loss of plasticity*: Dohare et al. 2024; warm starts
that generalise worse: Ash and Adams 2020). Where the change is small, going on wins. Other regimes
are not rehearsed: the forgetting gate says what that costs. It trains four times.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from models.evaluate import evaluate
from models.learner import Examples, FitReport
from models.strategies.contract import Training
from models.torch_learner import guarded

HELD = 5  # of so many different rows one judges


def renewal(training: Training) -> FitReport:
    """As `Strategy`; of the memory only rows of the same regime are read.

    Raises:
        LearnerError: the learner does not build what it built before.
    """
    new, learner, state = training.new, training.learner, training.generator.get_state()
    # Equal rows stand on one side: what a net says of rows that it never saw is what differs.
    judging = torch.unique(new.x, dim=0, return_inverse=True)[1] % HELD == HELD - 1
    taught, held = _part(new, ~judging), _part(new, judging)
    own = _of_regime(training)
    choices: list[tuple[bool, Examples | None]] = [(False, None), (True, None)]
    if own is not None:
        choices.append((True, own))
    losses = []
    for anew, more in choices:
        module = _begun(training, anew=anew)
        _fit(training, module, taught, more)
        judged = evaluate(learner, module, held.x, held.y) if len(held) else None
        losses.append(float(judged.losses.mean()) if judged is not None else 0.0)
    anew, more = choices[losses.index(min(losses))]
    training.generator.set_state(state)
    module = _begun(training, anew=anew)
    report = _fit(training, module, new, more)
    guarded(training.candidate.load_state_dict, module.state_dict())
    return report


def _begun(training: Training, *, anew: bool) -> nn.Module:
    """A module to train: the champion's copy, or one that knows nothing."""
    if anew:
        return guarded(training.learner.build, training.generator)
    return copy.deepcopy(training.candidate)


def _fit(training: Training, module: nn.Module, rows: Examples, more: Examples | None) -> FitReport:
    if more is not None:
        rows = Examples(torch.cat([rows.x, more.x]), torch.cat([rows.y, more.y]))
    return guarded(training.learner.fit, module, rows, None, training.budget, training.generator)


def _of_regime(training: Training) -> Examples | None:
    """The memory's rows of the regime that the new rows are of; None where it has none."""
    memory, new = training.memory, training.new
    if memory is None or not len(memory) or not len(new.regime):
        return None
    kept = memory.examples()
    same = kept.regime == new.regime[0]
    return _part(kept, same) if bool(same.any()) else None


def _part(rows: Examples, which: torch.Tensor) -> Examples:
    return Examples(rows.x[which], rows.y[which])
