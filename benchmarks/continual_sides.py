"""What `benchmarks.continual` compares on one stream: our strategies, a full retrain, Avalanche's.

Shapes: T tasks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.continual_frozen import frozen_clinc
from benchmarks.continual_streams import (
    Stream,
    clinc,
    of_regime,
    rotated_digits,
    split_digits,
    split_mnist,
    ten_turns,
    together,
)
from models import Memory, Prototypes, TorchLearner, evaluate, retrain
from models.prototypes import PROJECTIONS

Floats = NDArray[np.float64]

ANEW = "all rows anew"
WITHOUT_MEMORY = ("fine-tune", "distillation", "renewal")
# Their projections and filters; filters are for images.
PROTOTYPES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {"prototypes": (PROJECTIONS, 0), "prototypes 3072": (3072, 0), "prototypes filters": (0, 48)}
)
SETTLED, PATIENCE = "settled", 3  # averaged-replay, which ends once so many passes bring nothing
PEER = "avalanche"
PEER_SECONDS = 3_600

STREAMS: Mapping[str, Callable[[int, Path], Stream]] = MappingProxyType(
    {
        "split-digits": lambda seed, _: split_digits(seed),
        "rotated-digits": lambda seed, _: rotated_digits(seed),
        "split-mnist": split_mnist,
        "clinc": clinc,
        "clinc-frozen": frozen_clinc,
        "history": lambda seed, _: ten_turns(seed),
    }
)


@dataclass(frozen=True)
class Found:
    """One strategy on one stream.

    Args:
        matrix: (T, T) accuracy on task j after task i; NaN for tasks still to come.
        seconds: (T,) processor time of the training on each task.
        kept: Bytes of what the last training read besides the new rows and the module.
    """

    matrix: Floats
    seconds: Floats
    kept: int

    @property
    def accuracy(self) -> float:
        """Mean over all tasks after the last."""
        return float(self.matrix[-1].mean())

    @property
    def forgetting(self) -> float:
        """Mean loss since each former task's best (Chaudhry et al. 2018, section 3)."""
        if np.isnan(self.matrix[0, 0]):  # taught all at once
            return float("nan")
        best = np.nanmax(self.matrix[:-1, :-1], axis=0)
        return float((best - self.matrix[-1, :-1]).mean())


def follow(stream: Stream, strategy: str, seed: int) -> Found:
    """Teach the tasks one after the other."""
    tasks, encoder = len(stream.taught), stream.learner
    learner: TorchLearner = encoder
    budget = stream.budget
    if strategy == SETTLED:
        strategy, budget = "averaged-replay", replace(budget, patience=PATIENCE)
    if strategy in PROTOTYPES:
        learner, strategy = Prototypes(encoder, *PROTOTYPES[strategy]), "prototypes"
    generator = torch.Generator().manual_seed(seed)
    model = learner.build(generator)
    memory = Memory(stream.memory_rows, seed)
    matrix, seconds = np.full((tasks, tasks), np.nan), np.zeros(tasks)
    kept = 0
    for number, rows in enumerate(stream.taught):
        began = time.process_time()
        if number:
            kept = size(memory)
            model, _ = retrain(learner, model, rows, memory, strategy, budget, seed)
        else:
            learner.fit(model, rows, None, stream.budget, generator)
        seconds[number] = time.process_time() - began
        memory.add(of_regime(rows, number))
        for task, held in enumerate(stream.held_out[: number + 1]):
            matrix[number, task] = evaluate(learner, model, held.x, held.y).accuracy
    if strategy == "prototypes":
        kept = sum(each.nbytes for each in model.state_dict().values())
    return Found(matrix, seconds, 0 if strategy in WITHOUT_MEMORY else kept)


def anew(stream: Stream, seed: int, *, each: bool = False) -> Found:
    """A fresh model on all tasks' rows at once; with `each` also on those of every task before."""
    learner, tasks = stream.learner, len(stream.taught)
    matrix, seconds = np.full((tasks, tasks), np.nan), np.full(tasks, np.nan)
    kept = 0
    for number in range(0 if each else tasks - 1, tasks):
        rows = together(stream.taught[: number + 1])
        generator = torch.Generator().manual_seed(seed)
        model = learner.build(generator)
        began = time.process_time()
        learner.fit(model, rows, None, stream.budget, generator)
        seconds[number] = time.process_time() - began
        for task, held in enumerate(stream.held_out[: number + 1]):
            matrix[number, task] = evaluate(learner, model, held.x, held.y).accuracy
        kept = rows.x.nbytes + rows.y.nbytes
    return Found(matrix, seconds, kept)


def ask_avalanche(stream: str, seed: int, folder: Path) -> dict[str, Found]:
    """Avalanche's strategies by name, run in its own environment.

    Raises:
        Missing: it cannot be installed here.
        RuntimeError: it failed.
    """
    from benchmarks.environments import said_by

    arguments = stream, str(seed), str(folder)
    said = json.loads(said_by(PEER, "avalanche_continual", *arguments, seconds=PEER_SECONDS))
    return {
        name: Found(
            np.array(one["matrix"], dtype=np.float64), np.array(one["seconds"]), one["kept"]
        )
        for name, one in said.items()
    }


def size(memory: Memory) -> int:
    """Bytes of the rows, truths, regimes and keys that a memory keeps."""
    if not len(memory):
        return 0
    rows = memory.examples()
    return rows.x.nbytes + rows.y.nbytes + rows.regime.nbytes + 8 * len(rows)
