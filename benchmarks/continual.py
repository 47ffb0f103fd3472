"""Retraining strategies side by side: what each learns, what it forgets, what it costs.

    python -m benchmarks.continual [--seeds 3] [--streams split-digits] [--data FOLDER]

No server. Each stream brings five tasks; after each the champion is retrained by the strategy on
that task's rows and judged on every task so far. Seeded: a second run finds the same accuracies.
Each training has one thread, and times are processor seconds: other work on the machine counts
little.

| figure | what it is |
|---|---|
| accuracy | mean over the tasks, after the last one |
| forgetting | mean over the tasks before the last: the best it ever was, less what is left |
| last update | processor time of the last retrain, as a share of a full retrain's |
| memory | bytes of the rows kept, for a strategy that reads them |

"all rows anew" is a fresh model taught all tasks' rows at once: a bound, not a strategy. Intervals
are 95 %, by Student's t over the seeds. Split MNIST needs `mnist.npz` in FOLDER (x_train, y_train,
x_test, y_test) and is skipped where it is absent.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t as student

from benchmarks.continual_streams import (
    Stream,
    of_regime,
    rotated_digits,
    split_digits,
    split_mnist,
    together,
)
from models import STRATEGIES, Memory, evaluate, retrain

STREAMS = ("split-digits", "rotated-digits", "split-mnist")
ANEW = "all rows anew"
WITHOUT_MEMORY = ("fine-tune", "distillation")
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """One strategy on one stream.

    Args:
        matrix: (T, T) accuracy on task j after task i; NaN for tasks still to come.
        seconds: Processor time of the last training.
        kept: Bytes of the memory that the last training read.
    """

    matrix: Floats
    seconds: float
    kept: int

    @property
    def accuracy(self) -> float:
        """Mean over all tasks after the last."""
        return float(self.matrix[-1].mean())

    @property
    def forgetting(self) -> float:
        """Mean loss since each former task's best (Chaudhry et al. 2018, section 3)."""
        best = np.nanmax(self.matrix[:-1, :-1], axis=0)
        return float((best - self.matrix[-1, :-1]).mean())


def follow(stream: Stream, strategy: str, seed: int) -> Found:
    """Teach the tasks one after the other."""
    learner, tasks = stream.learner, len(stream.taught)
    generator = torch.Generator().manual_seed(seed)
    model = learner.build(generator)
    learner.fit(model, stream.taught[0], None, stream.budget, generator)
    memory = Memory(stream.memory_rows, seed)
    matrix, seconds = np.full((tasks, tasks), np.nan), 0.0
    for number, rows in enumerate(stream.taught):
        if number:
            began = time.process_time()
            model, _ = retrain(learner, model, rows, memory, strategy, stream.budget, seed)
            seconds = time.process_time() - began
        kept = size(memory)
        memory.add(of_regime(rows, number))
        for task, held in enumerate(stream.held_out[: number + 1]):
            matrix[number, task] = evaluate(learner, model, held.x, held.y).accuracy
    return Found(matrix, seconds, 0 if strategy in WITHOUT_MEMORY else kept)


def anew(stream: Stream, seed: int) -> Found:
    """A full retrain after the last task."""
    learner, rows = stream.learner, together(stream.taught)
    generator = torch.Generator().manual_seed(seed)
    model = learner.build(generator)
    began = time.process_time()
    learner.fit(model, rows, None, stream.budget, generator)
    seconds = time.process_time() - began
    last = [evaluate(learner, model, held.x, held.y).accuracy for held in stream.held_out]
    matrix = np.full((len(last), len(last)), np.nan)
    matrix[-1] = last
    return Found(matrix, seconds, sum(rows.x[0].nbytes + rows.y[0].nbytes for _ in rows.y))


def size(memory: Memory) -> int:
    """Bytes of the rows, truths, regimes and keys that a memory keeps."""
    if not len(memory):
        return 0
    rows = memory.examples()
    return rows.x.nbytes + rows.y.nbytes + rows.regime.nbytes + 8 * len(rows)


def interval(values: Sequence[float]) -> str:
    """Mean and half width of its 95 % interval."""
    sample = np.asarray(values)
    if len(sample) < 2:
        return f"{sample.mean():.3f}        "
    half = student.ppf(0.975, len(sample) - 1) * sample.std(ddof=1) / np.sqrt(len(sample))
    return f"{sample.mean():.3f} ± {half:.3f}"


def both(make: Callable[[int], Stream], seed: int) -> dict[str, Found]:
    """Every strategy on one stream of one seed, and the full retrain."""
    torch.set_num_threads(1)
    stream = make(seed)
    return {ANEW: anew(stream, seed)} | {
        strategy: follow(stream, strategy, seed) for strategy in STRATEGIES
    }


def table(pool: Executor, title: str, make: Callable[[int], Stream], seeds: int) -> None:
    """Run every strategy on one stream and print what was found."""
    began = time.monotonic()
    runs = list(pool.map(partial(both, make), range(seeds)))
    found = {name: [run[name] for run in runs] for name in runs[0]}
    print(f"\n{title}, {seeds} seeds, {time.monotonic() - began:.0f} s")
    print(f"{'strategy':17}  {'accuracy':13}  {'forgetting':14}  last update     memory")
    for line in lines(found):
        print(line, flush=True)


def lines(found: Mapping[str, Sequence[Found]]) -> list[str]:
    """One line a strategy, the most accurate first and the full retrain above."""
    full = np.array([one.seconds for one in found[ANEW]])

    def place(name: str) -> float:
        return np.inf if name == ANEW else float(np.mean([one.accuracy for one in found[name]]))

    said = []
    for name in sorted(found, key=place, reverse=True):
        runs = found[name]
        lost = "" if name == ANEW else interval([one.forgetting for one in runs])
        share = np.mean(np.array([one.seconds for one in runs]) / full)
        accuracy = interval([one.accuracy for one in runs])
        said.append(
            f"{name:17}  {accuracy}  {lost:14}  {share:10.0%}  {runs[0].kept / 1e3:6.1f} kB"
        )
    return said


def main() -> int:
    """Print a table for each stream."""
    parser = argparse.ArgumentParser(prog="benchmarks.continual")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--streams", nargs="+", choices=STREAMS, default=STREAMS)
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of mnist.npz")
    given = parser.parse_args()
    mnist = given.data / "mnist.npz"
    makers: dict[str, tuple[str, Callable[[int], Stream]]] = {
        "split-digits": ("split digits, 100 rows kept", split_digits),
        "rotated-digits": ("rotated digits, 100 rows kept", rotated_digits),
        "split-mnist": ("split MNIST, 200 rows kept", partial(split_mnist, file=mnist)),
    }
    with ProcessPoolExecutor(given.processes) as pool:
        for name in given.streams:
            if name == "split-mnist" and not mnist.is_file():
                print(
                    "\nsplit MNIST is skipped: there is no mnist.npz; name its folder with --data"
                )
                continue
            table(pool, *makers[name], given.seeds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
