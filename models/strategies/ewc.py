"""Elastic weight consolidation (EWC): weights that mattered to the old rows are held back.

Kirkpatrick et al. 2017, *Overcoming catastrophic forgetting in neural networks*, equation 3. F is
the diagonal of the Fisher information at the champion's weights, over the rows of the memory
and the model's own answers. The memory's rows are read for F alone, none is replayed.

    objective = loss(f(x), y) + STRENGTH / 2 sum_i F_i (w_i - w_i before)^2
    F_i       = mean over x of the memory of (d log p(y | x) / d w_i)^2,  y drawn from p(y | x)

For a regression p is normal with a deviation of `scale`: F_i = mean (d f(x) / d w_i)^2 / scale^2.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.learner import Examples, FitReport
from models.objectives import Ground, Objective, Step
from models.strategies.contract import Training

STRENGTH = 1000.0

Weights = Mapping[str, Tensor]  # by the parameter's name


def ewc(training: Training) -> FitReport:
    """As `Strategy`.

    Raises:
        DataError: there is no memory.
        SettingsError: the learner takes no objective.
    """
    kept = training.remembered()

    def elastic(ground: Ground) -> Objective:
        before = {name: w.detach().clone() for name, w in ground.model.named_parameters()}
        fisher = fisher_diagonal(ground.model, kept, ground.scale, ground.generator)

        def objective(step: Step) -> Tensor:
            held = penalty(ground.model, before, fisher)
            return ground.plain(step.outputs, step.y) + STRENGTH * held

        return objective

    return training.fit_by(elastic, None)


def penalty(model: nn.Module, before: Weights, fisher: Weights) -> Tensor:
    """1/2 sum_i F_i (w_i - w_i before)^2, ()."""
    parts = [(fisher[name] * (w - before[name]) ** 2).sum() for name, w in model.named_parameters()]
    return 0.5 * torch.stack(parts).sum()


def fisher_diagonal(
    model: nn.Module, rows: Examples, scale: float, generator: torch.Generator
) -> Weights:
    """F of each weight, at the weights as they are; the module is left as it is."""
    still = copy.deepcopy(model).eval()
    total = {name: torch.zeros_like(w) for name, w in still.named_parameters()}
    for x in torch.split(rows.x, 1):
        still.zero_grad(set_to_none=True)
        evidence = _evidence(still(x), rows.y.is_floating_point(), scale, generator)
        torch.autograd.backward(evidence)
        for name, w in still.named_parameters():
            if w.grad is not None:
                total[name] += w.grad**2
    return {name: found / len(rows) for name, found in total.items()}


def _evidence(
    outputs: Tensor, regression: bool, scale: float, generator: torch.Generator
) -> Tensor:
    """Of one row (1, C): something with the gradient, up to its sign, of log p(y | x)."""
    if regression:
        return outputs.sum() / scale
    chances = torch.softmax(outputs.detach(), dim=1)
    return functional.cross_entropy(
        outputs, torch.multinomial(chances, 1, generator=generator)[:, 0]
    )
