"""When a training has settled: rows set apart, and a rule that looks at the loss on them.

After each pass the mean loss of the rows set apart is taken (`TorchLearner.watch`): what the gates
judge by, and for classes its mean under the model's own chances, 1 - p(truth), which few rows tell
more of. The training has settled when `patience` passes in a row brought no new lowest one.

The rows are a tenth of the new ones, drawn by the training's seed, and are not learnt from; where
that is fewer than `LEAST` rows chance would rule, and nothing is set apart. They are never the rows
that the gates judge by: a training that ended where those liked it best would pass more often than
its gates promise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from models.learner import Examples

SHARE = 0.1  # of the new rows
LEAST = 50  # rows: the mean of fewer 0/1 losses moves by more than a pass brings


@dataclass(frozen=True)
class Parted:
    """New rows to learn from, and rows set apart; None: all are learnt from."""

    learnt: Examples
    apart: Examples | None


def part(data: Examples, patience: int | None, generator: torch.Generator) -> Parted:
    """Set a tenth of the rows apart, where the training is to look and there are enough."""
    count = int(SHARE * len(data))
    if patience is None or count < LEAST:
        return Parted(data, None)
    order = torch.randperm(len(data), generator=generator)
    return Parted(_at(data, order[count:].sort().values), _at(data, order[:count].sort().values))


def has_settled(losses: Sequence[float], patience: int) -> bool:
    """Whether the last `patience` mean losses are all no lower than the lowest before them."""
    return len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])


def _at(data: Examples, rows: torch.Tensor) -> Examples:
    weight = data.weight[rows] if len(data.weight) else data.weight
    return Examples(data.x[rows], data.y[rows], weight=weight)
