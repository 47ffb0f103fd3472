"""A byte language model taught one package of the standard library after another.

    python -m benchmarks.continual_code [--seeds 3] [--processes 2] [--old email] [--new asyncio]

No server. A champion learns the old packages; then each way of retraining teaches it the new one,
and both are read again: rows that nobody was taught, in bits per byte (lower is better), over the
second half of each window. The same seed finds the same figures on the same Python: the text is its
own standard library's. Each training has one thread; cost is processor seconds.

| figure | what it is |
|---|---|
| old, new | bits per byte of held-out rows after the retrain |
| lost | bits per byte more on the old rows than the champion needs |
| gain | of the bits that `fine-tune` saves on the new rows, how much this saves |
| cost | processor seconds of the retrain, as a share of "all rows anew" |

`replay P %`: that share of each step's rows from the memory. `plain`: truths alone; the others hold
replayed rows to the champion's answers too, as the strategy `replay` does. `slow`: a third of the
learning rate. `settled`: ends as a retrain does by its policy. "all rows anew" is a fresh model
taught old and new rows together.

Imports: torch, numpy, scipy, safetensors, msgspec, pydantic, and this repository.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor, nn

from benchmarks.continual_streams import of_regime, together
from models import Budget, Code, Examples, FitReport, Memory, evaluate, read_dataset, retrain
from models.objectives import Ground, Objective, held_to_before

HELD_OUT = 0.25
ANEW = "all rows anew"
CHAMPION = "champion"
RATE = 3e-3
WAYS: Mapping[str, Mapping[str, Any]] = {  # what each changes of the budget
    "fine-tune": {},
    "fine-tune, slow": {"learning_rate": RATE / 3},
    "plain replay 25 %": {"replayed": 0.25},
    "plain replay 50 %": {"replayed": 0.5},
    "replay 25 %": {"replayed": 0.25},
    "replay 50 %": {"replayed": 0.5},
    "averaged replay 50 %": {"replayed": 0.5},
    "replay 50 %, slow": {"replayed": 0.5, "learning_rate": RATE / 3},
    "replay 50 %, settled": {"replayed": 0.5, "patience": 2},
}
STRATEGIES = {"fine-tune": "fine-tune", "averaged": "averaged-replay"}  # by a way's first word


@dataclass(frozen=True)
class Course:
    """What is taught.

    Args:
        old: Packages that the champion learns.
        new: Packages that it is then taught.
        old_rows: Windows of the old ones, at most.
        new_rows: Windows of the new ones, at most.
        memory_rows: Of the old ones that are kept.
        epochs: Of the champion; a retrain has half.
        learner: The language model.
    """

    old: str
    new: str
    old_rows: int
    new_rows: int
    memory_rows: int
    epochs: int
    learner: Code


@dataclass(frozen=True)
class Found:
    """Bits per byte of held-out rows, and processor seconds of the training."""

    old: float
    new: float
    seconds: float


@dataclass(frozen=True)
class Text:
    """Rows of some packages: to teach, and held out."""

    taught: Examples
    held_out: Examples


def text(learner: Code, packages: str, rows: int, seed: int) -> Text:
    """Windows drawn by the seed; no held-out one is ever taught."""
    data = read_dataset(f"builtin:stdlib/{packages}", "")
    order = np.random.default_rng(seed).permutation(len(data))[:rows]
    x = learner.encode([data.rows[at] for at in order])
    y = learner.targets([data.labels[at] for at in order])
    cut = round(HELD_OUT * len(order))
    return Text(Examples(x[cut:], y[cut:]), Examples(x[:cut], y[:cut]))


def stream(course: Course, seed: int) -> tuple[Text, Text]:
    """The standard library by package: the old rows, and the new ones."""
    learner = course.learner
    old = text(learner, course.old, course.old_rows, seed)
    return old, text(learner, course.new, course.new_rows, seed)


def bits(learner: Code, model: nn.Module, rows: Examples) -> float:
    """Bits per byte of rows."""
    outputs = evaluate(learner, model, rows.x, rows.y).outputs
    return learner.measures(outputs)["bits_per_byte"]


def fresh(course: Course, rows: Examples, seed: int) -> nn.Module:
    """A model that learnt rows from nothing."""
    generator = torch.Generator().manual_seed(seed)
    model = course.learner.build(generator)
    budget = Budget(epochs=course.epochs, seconds=1e9, learning_rate=RATE)
    course.learner.fit(model, rows, None, budget, generator)
    return model


def further(
    course: Course, champion: nn.Module, new: Examples, memory: Memory, way: str, seed: int
) -> nn.Module:
    """The champion, taught the new rows in one of the ways."""
    learner = course.learner
    usual = Budget(epochs=max(1, course.epochs // 2), seconds=1e9, learning_rate=RATE)
    budget = dataclasses.replace(usual, **WAYS[way])
    strategy = STRATEGIES.get(way.split()[0].rstrip(","), "replay")
    teacher = Plain(**learner.config()) if way.startswith("plain") else learner
    return retrain(teacher, champion, new, memory, strategy, budget, seed)[0]


class Plain(Code):
    """The same, held to truths alone."""

    def fit(
        self,
        model: nn.Module,
        data: Examples,
        replay: Examples | None,
        budget: Budget,
        generator: torch.Generator,
    ) -> FitReport:
        """As `Learner.fit`."""
        return self.fit_by(truths_alone, model, data, replay, budget, generator)


def truths_alone(ground: Ground) -> Objective:
    """Experience replay as Chaudhry et al. have it."""
    return held_to_before(ground.loss, ground.distil, 0.0)


Task = tuple[Course, int, str]  # of one seed, one way
Made = tuple[Found, dict[str, Tensor]]


def begun(task: Task) -> Made:
    """The champion, or a fresh model of all rows, of one seed."""
    torch.set_num_threads(1)
    course, seed, name = task
    old, new = stream(course, seed)
    rows = old.taught if name == CHAMPION else together([old.taught, new.taught])
    began = time.process_time()
    model = fresh(course, rows, seed)
    return found(course, model, old, new, time.process_time() - began), model.state_dict()


def gone_on(task: Task, weights: Mapping[str, Tensor]) -> Found:
    """The champion of one seed after a retrain."""
    torch.set_num_threads(1)
    course, seed, way = task
    old, new = stream(course, seed)
    champion = course.learner.build(torch.Generator())
    champion.load_state_dict(dict(weights))
    memory = Memory(course.memory_rows, seed)
    memory.add(of_regime(old.taught, 0))
    began = time.process_time()
    model = further(course, champion, new.taught, memory, way, seed)
    return found(course, model, old, new, time.process_time() - began)


def found(course: Course, model: nn.Module, old: Text, new: Text, seconds: float) -> Found:
    """What a model needs for rows that it was not taught."""
    learner = course.learner
    return Found(bits(learner, model, old.held_out), bits(learner, model, new.held_out), seconds)


def run(course: Course, seeds: int, pool: Executor) -> list[dict[str, Found]]:
    """Every way on every seed, each from that seed's champion."""
    first = [(course, seed, name) for seed in range(seeds) for name in (CHAMPION, ANEW)]
    made = dict(zip(((seed, name) for _, seed, name in first), pool.map(begun, first), strict=True))
    then = [(course, seed, way) for seed in range(seeds) for way in WAYS]
    champions = [made[seed, CHAMPION][1] for _, seed, _ in then]
    after = iter(pool.map(gone_on, then, champions))
    return [
        {name: made[seed, name][0] for name in (CHAMPION, ANEW)}
        | {way: next(after) for way in WAYS}
        for seed in range(seeds)
    ]


def interval(values: Sequence[float]) -> str:
    """Mean and half width of its 95 % interval."""
    sample = np.asarray(values)
    if len(sample) < 2:
        return f"{sample.mean():6.3f}        "
    half = student.ppf(0.975, len(sample) - 1) * sample.std(ddof=1) / np.sqrt(len(sample))
    return f"{sample.mean():6.3f} ± {half:.3f}"


def lines(runs: Sequence[Mapping[str, Found]]) -> list[str]:
    """One line a way."""
    said = [f"{'':21} {'old':>6}{'':9}{'new':>6}{'':9}{'lost':>6}{'':9}{'gain':>6}{'':9}  cost"]
    for name in runs[0]:
        mine = [one[name] for one in runs]
        cells = [interval([one.old for one in mine]), interval([one.new for one in mine])]
        if name != CHAMPION:
            cells.append(interval([one[name].old - one[CHAMPION].old for one in runs]))
            cells.append(interval([gained(one, name) for one in runs]))
            cells.append(f"{np.mean([one[name].seconds / one[ANEW].seconds for one in runs]):5.0%}")
        said.append(f"{name:21} {' '.join(cells)}")
    return said


def gained(one: Mapping[str, Found], name: str) -> float:
    """The share of what fine-tuning saves on the new rows."""
    return (one[CHAMPION].new - one[name].new) / (one[CHAMPION].new - one["fine-tune"].new)


def main() -> int:
    """Print a table for each new package."""
    parser = argparse.ArgumentParser(prog="benchmarks.continual_code")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--old", default="email", help="packages, with commas")
    parser.add_argument("--new", nargs="+", default=["asyncio", "encodings"])
    parser.add_argument("--old-rows", type=int, default=3000)
    parser.add_argument("--new-rows", type=int, default=1000)
    parser.add_argument("--memory-rows", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--width", type=int, default=64)
    given = parser.parse_args()
    with ProcessPoolExecutor(given.processes) as pool:
        for new in given.new:
            course = Course(
                given.old,
                new,
                given.old_rows,
                given.new_rows,
                given.memory_rows,
                given.epochs,
                Code(width=given.width, horizon=1),
            )
            began = time.monotonic()
            runs = run(course, given.seeds, pool)
            took = time.monotonic() - began
            print(f"\n{given.old}, then {new}: {given.seeds} seeds, {took:.0f} s")
            print("\n".join(lines(runs)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
