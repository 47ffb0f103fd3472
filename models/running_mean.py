"""The running mean of a module's weights along its training.

Shapes: as the module's.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

_FIRST = 10  # steps by which a short way is averaged more evenly


class RunningMean:
    """A module beside the one in training, whose weights are the mean of that one's.

    Args:
        model: In training.
        decay: d; the mean is over about 1 / (1 - d) steps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).eval()
        self._decay = decay
        self._pairs = [
            (mean, now)
            for mean, now in zip(_state(self.module), _state(model), strict=True)
            if now.is_floating_point()
        ]

    def follow(self, steps: int) -> None:
        """Take in the weights after so many steps."""
        share = 1.0 - min(self._decay, steps / (steps + _FIRST))
        with torch.no_grad():
            for mean, now in self._pairs:
                mean.lerp_(now, share)

    def into(self, model: nn.Module) -> None:
        """Let a module have the mean."""
        model.load_state_dict(self.module.state_dict())

    def restore(self, weights: Mapping[str, Tensor]) -> None:
        """Go on from a mean that was kept."""
        self.module.load_state_dict(dict(weights))


def _state(module: nn.Module) -> list[Tensor]:
    return list(module.state_dict(keep_vars=True).values())
