"""Head only: the layers below the last one are frozen, and the head learns by replay.

For an encoder that knows enough already: nothing that the body says of any row can be lost, and a
step computes the gradient of one layer (the linear probing of Kumar et al. 2022, *Fine-tuning can
distort pretrained features and underperform out-of-distribution*, section 2; here the head starts
from the champion's).

    objective = that of `replay`, over the weights of the head alone
"""

from __future__ import annotations

import torch
from torch import nn

from homeostat.errors import SettingsError
from models.learner import FitReport
from models.strategies.contract import Training
from models.strategies.replay import replay


def head_only(training: Training) -> FitReport:
    """As `Strategy`.

    Raises:
        DataError: there is no memory.
        SettingsError: the module has no linear layer of its own weights to end with.
    """
    candidate = training.candidate
    held = set(map(id, head_of(candidate).parameters()))
    frozen = [w for w in candidate.parameters() if id(w) not in held and w.requires_grad]
    kept = {name: value.clone() for name, value in candidate.named_buffers()}
    for weight in frozen:
        weight.requires_grad_(False)
    try:
        return replay(training)
    finally:
        for weight in frozen:
            weight.requires_grad_(True)
        with torch.no_grad():  # statistics of normalisation layers are of the body too
            for name, value in candidate.named_buffers():
                value.copy_(kept[name])


def head_of(module: nn.Module) -> nn.Linear:
    """The last linear layer, in the order in which the module names them.

    Raises:
        SettingsError: there is none, or it is not trained by steps.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    if not layers or not layers[-1].weight.requires_grad:
        raise SettingsError(
            f"{type(module).__name__} has no linear layer for a head, so none can learn alone.",
            remedy="Use replay, or let the learner's module end with a linear layer.",
        )
    return layers[-1]
