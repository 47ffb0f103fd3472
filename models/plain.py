"""Small nets by numpy alone, for the few rows of a single request.

torch takes some ten microseconds to get to a layer and back, whatever the layer holds: of one row
through two small layers that is nearly all, and each way there lets go of Python's lock, which
another thread may then keep.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import nn

Values = NDArray[np.float32]
Plain = Callable[[Values], Values]

FEW = 16  # rows that are answered so
_LARGEST = 8192  # weights of a layer: with more, numpy's BLAS would wake threads on all cores


@runtime_checkable
class Plainly(Protocol):
    """A module that knows itself without torch."""

    def plain(self) -> Plain | None:
        """What `forward` gives of (n, D), by numpy; None: torch is the way to it."""


def perceptron(layers: nn.Module) -> Plain | None:
    """Linear layers with ReLUs between them, by numpy; None: they are others, or large.

    It has the weights as they are now, and gives what torch does but for the last bits.
    """
    parts = list(layers.children())
    linear = [part for part in parts if isinstance(part, nn.Linear)]
    order = [type(part) for part in parts]
    if order != [nn.Linear, *[nn.ReLU, nn.Linear] * (len(linear) - 1)]:
        return None
    if any(part.weight.numel() > _LARGEST or part.bias is None for part in linear):
        return None
    (first, start), *rest = (
        (part.weight.detach().numpy().T.copy(), part.bias.detach().numpy().copy())
        for part in linear
    )

    def forward(rows: Values) -> Values:
        values: Values = rows @ first + start
        for weight, bias in rest:
            values = np.maximum(values, 0.0, out=values) @ weight + bias
        return values

    return forward


def softmax(logits: Values) -> Values:
    """Probabilities (n, C) of logits, in their place."""
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits
