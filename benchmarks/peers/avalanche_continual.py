"""Avalanche's own strategies on a stream of the benchmark, in Avalanche's own environment.

    python -m benchmarks.peers.avalanche_continual STREAM SEED FOLDER [STRATEGY ...]

The rows, the net with its first weights, the memory, the epochs, the optimiser and the rows of a
step are those of our sides: half of a step is replayed where a strategy replays. What a strategy
has besides is Avalanche's default (DER with its `beta`, which makes it DER++). Prints as JSON, by
name: `matrix` (T, T), accuracy on task j after task i (null: still to come), `seconds` (T,),
processor time of the training on each task, and `kept`, bytes of what the last training read
besides the new rows and the net: rows of the buffer, EWC's weights and their importances.
"""

from __future__ import annotations

import json
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from benchmarks.continual_sides import STREAMS
from benchmarks.continual_streams import Stream
from models import evaluate

STRATEGIES: Mapping[str, tuple[str, tuple[str, ...], Mapping[str, Any]]] = {
    "Naive": ("Naive", (), {}),
    "LwF": ("LwF", (), {"alpha": 1.0, "temperature": 2.0}),
    "EWC": ("EWC", (), {"ewc_lambda": 1000.0}),
    "Replay": ("Replay", ("mem_size",), {}),
    "ER-ACE": ("ER_ACE", ("mem_size", "batch_size_mem"), {}),
    "DER++": ("DER", ("mem_size", "batch_size_mem"), {"alpha": 0.1, "beta": 0.5}),
    "GDumb": ("GDumb", ("mem_size",), {}),
}


class Strategy(Protocol):
    """What the benchmark needs of a strategy of Avalanche's."""

    model: nn.Module
    plugins: Sequence[object]

    def train(self, experience: object, *, num_workers: int, pin_memory: bool) -> object:
        """Learn one task."""


def make_importable() -> object:
    """Let Avalanche be imported without three things that a training does not need.

    They are wandb, GPUtil, which Python 3.12 cannot import, and torchvision's compiled operators,
    which exist for one build of torch only and are there as long as what this returns is.
    """
    for name in ("wandb", "GPUtil"):
        sys.modules[name] = types.ModuleType(name)
    library: Callable[..., Any] = torch.library.Library
    operators: Any = library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor x) -> Tensor")
    return operators


OPERATORS = make_importable()


def strategy_of(name: str, stream: Stream, model: nn.Module) -> Strategy:
    """Avalanche's strategy with the settings of our sides."""
    from avalanche.training import supervised as theirs

    kind, takes, more = STRATEGIES[name]
    budget = stream.budget
    half = budget.batch_size // 2
    sizes = {"mem_size": stream.memory_rows, "batch_size_mem": half}
    build: Callable[..., Strategy] = getattr(theirs, kind)
    replays = "mem_size" in takes and name != "GDumb"
    return build(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), lr=budget.learning_rate),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=half if replays else budget.batch_size,
        train_epochs=budget.epochs,
        eval_mb_size=1024,
        device="cpu",
        evaluator=None,
        **{one: sizes[one] for one in takes},
        **more,
    )


def kept_by(strategy: Strategy) -> int:
    """Bytes of the rows in its buffer, and of the weights it is held to with their importances."""
    count = 0
    for holder in (strategy, *strategy.plugins):
        if (policy := getattr(holder, "storage_policy", None)) is not None:
            parts = (torch.as_tensor(part) for row in policy.buffer for part in row)
            count += sum(part.nbytes for part in parts)
        for tables in (getattr(holder, name, {}) for name in ("saved_params", "importances")):
            held: list[Tensor] = [one.data for table in tables.values() for one in table.values()]
            count += sum(one.nbytes for one in held)
    return count


def follow(stream: Stream, name: str, seed: int) -> dict[str, Any]:
    """Teach the tasks one after the other."""
    from avalanche.benchmarks import tensors_benchmark

    model = stream.learner.build(torch.Generator().manual_seed(seed))
    torch.manual_seed(seed)
    parts = [(rows.x, rows.y) for rows in stream.taught]
    experiences = tensors_benchmark(
        train_tensors=parts, test_tensors=parts, task_labels=[0] * len(parts)
    ).train_stream
    strategy = strategy_of(name, stream, model)
    matrix: list[list[float | None]] = []
    seconds = []
    kept = 0
    for number, experience in enumerate(experiences):
        kept = kept_by(strategy)
        began = time.process_time()
        strategy.train(experience, num_workers=0, pin_memory=False)
        seconds.append(time.process_time() - began)
        line: list[float | None] = [None] * len(stream.taught)
        for task, held in enumerate(stream.held_out[: number + 1]):
            line[task] = evaluate(stream.learner, strategy.model, held.x, held.y).accuracy
        matrix.append(line)
    return {"matrix": matrix, "seconds": seconds, "kept": kept}


def main() -> None:
    """Answer for every strategy asked for."""
    torch.set_num_threads(1)
    stream_name, seed, folder, *names = sys.argv[1:]
    stream = STREAMS[stream_name](int(seed), Path(folder))
    found = {name: follow(stream, name, int(seed)) for name in names or STRATEGIES}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
