"""The training loop: one straight function, with or without replay.

Shapes: N new rows, M replayed rows, B rows of a step, C classes (or 1 value).

With replay each step takes half of its rows from the new data and half from the memory, or what
the budget says (ER:
Chaudhry et al. 2019, *On tiny episodic memories in continual learning*, section 3), drawn so
that every class is equally likely. What a step lowers is the strategy's: `models.objectives`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from homeostat.errors import DataError
from models.course import Course, fingerprint, restore, stand
from models.learner import Budget, Examples, FitReport
from models.objectives import Objective, Step, said
from models.running_mean import RunningMean
from models.settling import has_settled


def train(
    model: nn.Module,
    data: Examples,
    replay: Examples | None,
    budget: Budget,
    generator: torch.Generator,
    *,
    objective: Objective,
    watch: Callable[[nn.Module], float] | None = None,
    timer: Callable[[], float] = time.monotonic,
) -> FitReport:
    """Train `model` in place with AdamW; the same generator state gives the same weights.

    Bit for bit on the same machine with the same number of torch threads, which decides the
    order of sums. So does a training that was killed at any step and goes on from the budget's
    checkpoint, unless its seconds end it.

    Args:
        model: Takes (B, D), gives raw outputs (B, C).
        data: The N new rows; an epoch is one pass over them.
        replay: The M rows of the memory, or None.
        budget: What the training may spend, and where its checkpoint is kept.
        generator: The only source of randomness.
        objective: What each step lowers.
        watch: The mean loss of the module on rows set apart, for the budget's patience.
        timer: Seconds that only grow; the wall clock's budget is taken by it.

    Raises:
        DataError: there is no row to learn from.
        LearnerError: the loss is no longer finite.
    """
    if not len(data):
        raise DataError("There is no row to learn from.", remedy="Give labelled rows.")
    started, cpu_started = timer(), time.process_time()
    optimiser = torch.optim.AdamW(model.parameters(), lr=budget.learning_rate)
    memory = _Memory(model, replay) if replay is not None and len(replay) else None
    mean = RunningMean(model, budget.averaging) if budget.averaging is not None else None
    size, share = budget.batch_size, budget.replayed
    fresh = size if memory is None else max(1, round(size * (1.0 - share)))
    course, checkpoint = Course(), budget.checkpoint
    if checkpoint is not None:
        named = fingerprint(model, data, replay, budget, generator)
        if (kept := checkpoint.begin(named)) is not None:
            course = restore(kept, model, optimiser, generator, mean)
    before, resumed_at = course.seconds, course.steps
    cpu_before = course.cpu_seconds

    def keep() -> None:
        if checkpoint is not None and math.isfinite(course.total):
            course.seconds = before + timer() - started
            course.cpu_seconds = cpu_before + time.process_time() - cpu_started
            checkpoint.keep(course.steps, *stand(course, model, optimiser, generator, mean))

    model.train()
    while not course.has_ended():
        if not len(course.order):
            course.order = torch.randperm(len(data), generator=generator)
        for rows in _batches(course.order, fresh)[course.done :]:
            x, y = data.x[rows], data.y[rows]
            if memory is None:
                outputs = model(x)
                step = Step(outputs, y, rows, outputs[:0])
            else:
                beside = max(1, round(len(rows) * share / (1.0 - share)))
                old_x, old_y, said_before = memory.draw(beside, generator)
                outputs = model(torch.cat([x, old_x]))
                step = Step(outputs, torch.cat([y, old_y]), rows, said_before)
            lowered = objective(step)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(lowered)
            optimiser.step()
            course.steps += 1
            course.done += 1
            if mean is not None:
                mean.follow(course.steps)
            course.rows_read += len(step.y)
            course.total += lowered.item()
            if course.steps == budget.steps:
                course.stopped = "steps"
            elif budget.rows is not None and course.rows_read >= budget.rows:
                course.stopped = "rows"
            elif before + timer() - started > budget.seconds:
                course.stopped = "seconds"
            if course.has_ended():
                break
            if checkpoint is not None and checkpoint.due:
                keep()
        course.end_pass()
        if course.has_ended():
            break
        if watch is not None and budget.patience is not None:
            course.watched.append(watch(model if mean is None else mean.module))
            model.train()
            if has_settled(course.watched, budget.patience):
                course.stopped = "settled"
        if len(course.losses) >= budget.epochs:
            course.stopped = "epochs"
    if course.steps > resumed_at:
        keep()
    if mean is not None:
        mean.into(model)
    model.eval()
    return FitReport(
        len(course.losses),
        course.steps,
        before + timer() - started,
        tuple(course.losses),
        course.stopped,
        rows_read=course.rows_read,
        watched=tuple(course.watched),
        resumed_at=resumed_at,
        cpu_before=cpu_before,
    )


def _batches(order: Tensor, size: int) -> Sequence[Tensor]:
    batches = torch.split(order, size)
    if len(batches) > 1 and len(batches[-1]) == 1:
        return batches[:-1]  # batch normalisation cannot learn from one row alone
    return batches


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


def prior_shift(
    data: Examples, replay: Examples | None, classes: int, replayed: float = 0.5
) -> Tensor:
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
    mixed = (1.0 - replayed) * new / new.sum() + replayed * (kept > 0) / (kept > 0).sum()
    shift = torch.log(mixed) - torch.log(stream / stream.sum())
    return torch.where(stream > 0, shift, torch.zeros_like(shift)).float()
