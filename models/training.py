"""The training loop: one straight function, with or without replay.

Shapes: N new rows, M replayed rows, B rows of a step, C classes (or 1 value).

With replay each step takes half of its rows from the new data and half from the memory (ER:
Chaudhry et al. 2019, *On tiny episodic memories in continual learning*, section 3), drawn so
that every class is equally likely. What a step lowers is the strategy's: `models.objectives`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from homeostat.errors import DataError, LearnerError
from models.learner import Budget, Examples, FitReport
from models.objectives import Objective, Step, said


def train(
    model: nn.Module,
    data: Examples,
    replay: Examples | None,
    budget: Budget,
    generator: torch.Generator,
    *,
    objective: Objective,
    timer: Callable[[], float] = time.monotonic,
) -> FitReport:
    """Train `model` in place with AdamW; the same generator state gives the same weights.

    Bit for bit on the same machine with the same number of torch threads, which decides the
    order of sums.

    Args:
        model: Takes (B, D), gives raw outputs (B, C).
        data: The N new rows; an epoch is one pass over them.
        replay: The M rows of the memory, or None.
        budget: Epochs, seconds, steps, batch size, learning rate.
        generator: The only source of randomness.
        objective: What each step lowers.
        timer: Seconds that only grow; the wall clock's budget is taken by it.

    Raises:
        DataError: there is no row to learn from.
        LearnerError: the loss is no longer finite.
    """
    if not len(data):
        raise DataError("There is no row to learn from.", remedy="Give labelled rows.")
    started = timer()
    optimiser = torch.optim.AdamW(model.parameters(), lr=budget.learning_rate)
    memory = _Memory(model, replay) if replay is not None and len(replay) else None
    fresh = budget.batch_size if memory is None else max(1, budget.batch_size // 2)
    model.train()
    steps, losses, stopped = 0, list[float](), "epochs"
    for _ in range(budget.epochs):
        total = 0.0
        batches = torch.split(torch.randperm(len(data), generator=generator), fresh)
        if len(batches) > 1 and len(batches[-1]) == 1:
            batches = batches[:-1]  # batch normalisation cannot learn from one row alone
        for done, rows in enumerate(batches, start=1):  # noqa: B007 - read after the loop
            x, y = data.x[rows], data.y[rows]
            if memory is None:
                outputs = model(x)
                step = Step(outputs, y, rows, outputs[:0])
            else:
                old_x, old_y, before = memory.draw(len(rows), generator)
                step = Step(model(torch.cat([x, old_x])), torch.cat([y, old_y]), rows, before)
            lowered = objective(step)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(lowered)
            optimiser.step()
            steps += 1
            total += lowered.item()
            if steps == budget.steps:
                stopped = "steps"
            elif timer() - started > budget.seconds:
                stopped = "seconds"
            if stopped != "epochs":
                break
        losses.append(total / done)
        if not math.isfinite(losses[-1]):
            raise LearnerError(
                f"The training diverged: the mean loss of epoch {len(losses)} is {losses[-1]}.",
                remedy="Lower the learning rate, or look for extreme values in the data.",
            )
        if stopped != "epochs":
            break
    model.eval()
    return FitReport(len(losses), steps, timer() - started, tuple(losses), stopped)


class _Memory:
    """Replayed rows with what the module said of them before the training."""

    def __init__(self, model: nn.Module, replay: Examples) -> None:
        self._x, self._y = replay.x, replay.y
        self._before = said(model, replay.x)
        self._chance = _balanced(replay.y)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (count, D), truths (count,) and former raw outputs (count, C)."""
        rows = torch.multinomial(self._chance, count, replacement=True, generator=generator)
        return self._x[rows], self._y[rows], self._before[rows]


def _balanced(y: Tensor) -> Tensor:
    """Chances (M,) that make every class equally likely; values are equally likely rows."""
    if y.is_floating_point():
        return torch.ones(len(y))
    _, index, counts = torch.unique(y, return_inverse=True, return_counts=True)
    chance: Tensor = 1.0 / counts[index]
    return chance


def prior_shift(data: Examples, replay: Examples | None, classes: int) -> Tensor:
    """What to add to the logits (C,) while training on the mixed stream.

    Class-balanced replay makes rare classes frequent, and a net fitted to the mixture would
    then predict them too often. Adding log P_mixed(c) - log P_stream(c) to the logits in the
    loss cancels that, so that the logits themselves stand for the stream (logit adjustment:
    Menon et al. 2021, section 4, with the stream's prior in place of a uniform one). The
    stream's frequencies are those of the new rows and of what the memory's rows stand for. A
    class in neither gets 0.
    """
    if replay is None or not len(replay):
        return torch.zeros(classes)
    new = torch.bincount(data.y, minlength=classes).double()
    kept = torch.bincount(replay.y, minlength=classes).double()
    stands_for = replay.weight.double() if len(replay.weight) else torch.ones(len(replay)).double()
    stream = new + torch.bincount(replay.y, weights=stands_for, minlength=classes)
    mixed = 0.5 * new / new.sum() + 0.5 * (kept > 0) / (kept > 0).sum()
    shift = torch.log(mixed) - torch.log(stream / stream.sum())
    return torch.where(stream > 0, shift, torch.zeros_like(shift)).float()
