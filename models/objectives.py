"""What one step of a training lowers: the part in which strategies differ.

Shapes: N new rows, M rows of the memory, B new and R replayed rows of a step, C outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.learner import Examples

DISTILLATION = 0.5  # weight of the old answers beside the truth
_CHUNK = 1024  # rows of one forward pass

Criterion = Callable[[Tensor, Tensor], Tensor]  # raw outputs (B, C), targets -> mean, ()


@dataclass(frozen=True)
class Step:
    """The rows of one step, the new ones first.

    Args:
        outputs: (B + R, C) raw outputs of the module in training.
        y: (B + R,) truths.
        rows: (B,) which of the N new rows these are.
        before: (R, C) raw outputs on the replayed rows of the module as it came in.
    """

    outputs: Tensor
    y: Tensor
    rows: Tensor
    before: Tensor


Objective = Callable[[Step], Tensor]  # a step -> what it lowers, ()


@dataclass(frozen=True)
class Ground:
    """What is known before the first step.

    Args:
        model: The module as it comes in; it is trained in place.
        data: The N new rows.
        replay: The M rows of the memory, or None.
        loss: Against truths, for the mixture of new and replayed rows that a step is made of.
        plain: The same for rows that come as they are.
        distil: Against the outputs of the module as it came in.
        scale: What a distance between outputs is measured in: 1 for logits.
        generator: The only source of randomness.
    """

    model: nn.Module
    data: Examples
    replay: Examples | None
    loss: Criterion
    plain: Criterion
    distil: Criterion
    scale: float
    generator: torch.Generator


Recipe = Callable[[Ground], Objective]


def held_to_before(loss: Criterion, distil: Criterion, weight: float) -> Objective:
    """Truths on all rows, and on the replayed ones the answers from before the training.

    loss(f(x), y) + weight * distil(f(x_replayed), f_before(x_replayed))
    """

    def objective(step: Step) -> Tensor:
        against_truth = loss(step.outputs, step.y)
        if not len(step.before):
            return against_truth
        return against_truth + weight * distil(step.outputs[len(step.rows) :], step.before)

    return objective


def usual(ground: Ground) -> Objective:
    """The objective of experience replay; without replay that of plain training."""
    return held_to_before(ground.loss, ground.distil, DISTILLATION)


def said(model: nn.Module, x: Tensor) -> Tensor:
    """Raw outputs (N, C) of the module as it is now, without a gradient and in evaluation."""
    teacher = copy.deepcopy(model).eval()
    with torch.no_grad():
        return torch.cat([teacher(rows) for rows in torch.split(x, _CHUNK)])
