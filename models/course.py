"""How far a training has come, as its checkpoint keeps it: counts, weights, optimiser, generator.

Shapes: N rows.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from homeostat.errors import LearnerError
from models.checkpoint import Kept
from models.learner import Budget, Examples
from models.running_mean import RunningMean

_OPTIMISER = "optimiser."
_WEIGHT = "weight."
_MEAN = "mean."


@dataclass
class Course:
    """How far a training has come: what its checkpoint keeps beside tensors.

    Args:
        steps: Steps of the optimiser.
        done: Batches of the present pass.
        total: Sum of their losses.
        losses: The mean loss of each pass that ended.
        watched: The mean loss on the rows set apart after each of these.
        rows_read: Rows read, new and replayed.
        seconds: Wall time of earlier processes.
        cpu_seconds: Processor time of earlier processes.
        stopped: Why it ended; empty: it has not.
        order: (N,) the rows in the order of the present pass; empty between passes.
    """

    steps: int = 0
    done: int = 0
    total: float = 0.0
    losses: list[float] = field(default_factory=list)
    watched: list[float] = field(default_factory=list)
    rows_read: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    stopped: str = ""
    order: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def has_ended(self) -> bool:
        """Whether something ended it."""
        return self.stopped != ""

    def end_pass(self) -> None:
        """Take the mean loss of the pass.

        Raises:
            LearnerError: it is not finite.
        """
        self.losses.append(self.total / self.done)
        if not math.isfinite(self.losses[-1]):
            raise LearnerError(
                f"The training diverged: the mean loss of epoch {len(self.losses)} is"
                f" {self.losses[-1]}.",
                remedy="Lower the learning rate, or look for extreme values in the data.",
            )
        self.done, self.total, self.order = 0, 0.0, self.order[:0]


def fingerprint(
    model: nn.Module,
    data: Examples,
    replay: Examples | None,
    budget: Budget,
    generator: torch.Generator,
) -> str:
    """SHA-256 of all that decides how a training goes, before its first step.

    What each step lowers is not in it: whoever keeps a checkpoint gives other objectives other
    folders.
    """
    content = hashlib.sha256(repr(budget).encode())
    tensors = {**model.state_dict(), "": generator.get_state(), "x": data.x, "y": data.y}
    if replay is not None:
        tensors |= {"replay x": replay.x, "replay y": replay.y, "replay weight": replay.weight}
    for name, tensor in tensors.items():
        content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        content.update(tensor.detach().contiguous().numpy())
    return content.hexdigest()


def stand(
    course: Course,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    mean: RunningMean | None = None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and plain JSON that `restore` takes."""
    tensors = {f"{_WEIGHT}{name}": weight for name, weight in model.state_dict().items()}
    for number, state in optimiser.state_dict()["state"].items():
        tensors |= {f"{_OPTIMISER}{number}.{name}": value for name, value in state.items()}
    if mean is not None:
        tensors |= {f"{_MEAN}{name}": one for name, one in mean.module.state_dict().items()}
    tensors |= {"generator": generator.get_state(), "order": course.order}
    about = asdict(course)
    del about["order"]
    return tensors, about


def restore(
    kept: Kept,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    mean: RunningMean | None = None,
) -> Course:
    """Put the weights, their mean, the optimiser and the generator where they were.

    Moments of the optimiser lie in memory as their weights do: sums over them then run in the same
    order, and give the same bits.
    """
    tensors = kept.tensors
    model.load_state_dict(_below(tensors, _WEIGHT))
    if mean is not None:
        mean.restore(_below(tensors, _MEAN))
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in _below(tensors, _OPTIMISER).items():
        number, _, field_name = name.partition(".")
        like = parameters[int(number)]
        if value.shape == like.shape:
            value = torch.empty_like(like, requires_grad=False).copy_(value)
        states.setdefault(int(number), {})[field_name] = value
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": states, "param_groups": groups})
    generator.set_state(tensors["generator"])
    return Course(**kept.about, order=tensors["order"])


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
