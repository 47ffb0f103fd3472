"""Weight averaging (WiSE-FT): half way from the champion to what replay made of it.

Wortsman et al. 2022, *Robust fine-tuning of zero-shot models*, section 3. They suggest 0.5 where
no held-out rows choose; ours are the gates', so they choose nothing here.

    w = (1 - ALPHA) w_champion + ALPHA w_replay
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from models.learner import FitReport
from models.strategies.contract import Training
from models.strategies.replay import replay

ALPHA = 0.5


def weight_averaging(training: Training) -> FitReport:
    """As `Strategy`.

    Raises:
        DataError: there is no memory.
    """
    champion = copy.deepcopy(training.candidate)
    report = replay(training)
    average(champion, training.candidate, ALPHA)
    return report


def average(champion: nn.Module, candidate: nn.Module, alpha: float) -> None:
    """Move the candidate's weights to (1 - alpha) of the champion's and alpha of its own.

    So with statistics that are kept beside them; counters stay the candidate's.
    """
    before = champion.state_dict()
    with torch.no_grad():
        for name, after in candidate.state_dict().items():
            if after.is_floating_point():
                after.copy_((1.0 - alpha) * before[name] + alpha * after)
