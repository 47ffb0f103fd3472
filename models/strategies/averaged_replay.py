"""Replay that ends as the mean of its way: an exponential average of the weights over the steps.

Polyak and Juditsky 1992, *Acceleration of stochastic approximation by averaging*, for the mean;
Carta et al. 2023, *Improving online continual learning performance and stability with temporal
ensembles*, section 3, for its use against forgetting: a step's noise, which moves the answers on
former regimes most where few of their rows are kept, is averaged away. With w_n the weights after
step n,

    mean_n = d mean_(n-1) + (1 - d) w_n,   d = min(DECAY, n / (n + 10))

so that a short training is averaged over what it has. The steps themselves are those of `replay`.
"""

from __future__ import annotations

from dataclasses import replace

from models.learner import FitReport
from models.strategies.contract import Training

DECAY = 0.99  # the mean is over about the last hundred steps


def averaged_replay(training: Training) -> FitReport:
    """As `Strategy`; a learner with a loop of its own may leave the average out.

    Raises:
        DataError: there is no memory.
    """
    budget = replace(training.budget, averaging=DECAY)
    return replace(training, budget=budget).fit(training.remembered())
