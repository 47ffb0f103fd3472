"""Rows of no known class, estimated without labels: how near the truth, and how often too high.

    python -m benchmarks.open_set [--seeds 3] [--windows 200] [--data FOLDER]

Digits: eight classes are taught, two that the seed draws are not; windows of 200 rows. CLINC150 (if
its file is in FOLDER): 150 intents are taught, and the rows of no known class are the data set's
own out-of-scope texts; windows of 1,000 rows. Windows are drawn from rows that were neither taught
nor profiled, with the stated share of rows of no known class. Seeded.

| figure | what it is |
|---|---|
| estimate | the mean over windows and seeds |
| low, high | the mean limits |
| too high | windows whose lower limit is above the true share: 2.5 % are promised |
| a sign | windows whose lower limit is above 0 |

The last lines have no row of an unknown class and known rows that became harder: what the
estimate cannot tell from unknown ones.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.continual import DATA
from benchmarks.continual_streams import CLINC_FILE, turned
from models import Budget, Digits, Examples, Text, TorchLearner, read_dataset
from monitoring import Profile
from monitoring.open_set import OpenSet

SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
TURN = 20.0  # degrees, of known digits that became harder
SEED = 5  # of the windows

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ground:
    """A trained and profiled model, and rows that it never saw: known, unknown, harder known."""

    learner: TorchLearner
    model: torch.nn.Module
    profile: Profile
    known: Tensor
    unknown: Tensor
    harder: Tensor
    window: int

    def values(self, x: Tensor) -> Floats:
        """What monitors watch of rows: features, class, confidence."""
        outputs = self.learner.predict(self.model, x)
        said = self.learner.predicted(outputs), self.learner.confidence(outputs)
        return np.column_stack([self.learner.observe(x), *said])


def taught(
    learner: TorchLearner, rows: Examples, held: Examples, seed: int, epochs: int
) -> tuple[torch.nn.Module, Profile]:
    """A model taught rows, and its profile by held-out ones."""
    generator = torch.Generator().manual_seed(seed)
    model = learner.build(generator)
    learner.fit(model, rows, None, Budget(epochs=epochs), generator)
    outputs = learner.predict(model, held.x)
    profile = Profile.from_reference(
        learner.features,
        "classification",
        learner.observe(held.x),
        learner.predicted(outputs),
        learner.confidence(outputs),
        learner.score(outputs, learner.truths(held.y)),
    )
    return model, profile


def digits(seed: int) -> Ground:
    """Eight of scikit-learn's ten digits."""
    data, rng = read_dataset("builtin:digits", ""), np.random.default_rng(seed)
    pixels, truths = np.array(data.rows, dtype=np.float64), np.array(data.labels, dtype=np.int64)
    classes = tuple(sorted(rng.permutation(10)[:8].tolist()))
    order = rng.permutation(np.flatnonzero(np.isin(truths, classes)))
    cut, end = len(order) // 2, len(order) * 3 // 4
    learner = Digits(classes=classes)

    def at(places: NDArray[np.int64]) -> Examples:
        return Examples(_rows(pixels[places]), learner.targets(truths[places].tolist()))

    model, profile = taught(learner, at(order[:cut]), at(order[cut:end]), seed, 30)
    left = pixels[order[end:]]
    strange = _rows(pixels[~np.isin(truths, classes)])
    return Ground(learner, model, profile, _rows(left), strange, _rows(turned(left, TURN)), 200)


def clinc(seed: int, folder: Path) -> Ground:
    """150 intents, and texts that are of none; harder ones lack every second word."""
    with gzip.open(folder / CLINC_FILE) as file:
        data = json.load(file)
    learner = Text(classes=tuple(sorted({intent for _, intent in data["train"]})))

    def read(part: str) -> tuple[list[str], Examples]:
        texts, intents = zip(*data[part], strict=True)
        return list(texts), Examples(learner.encode(texts), learner.targets(intents))

    model, profile = taught(learner, read("train")[1], read("val")[1], seed, 10)
    texts, known = read("test")
    short = learner.encode([" ".join(text.split()[::2]) for text in texts])
    return Ground(learner, model, profile, known.x, read("oos_test")[1].x, short, 1_000)


def windows(ground: Ground, known: Floats, share: float, count: int) -> Iterator[OpenSet]:
    """The estimates of windows with a share of rows of no known class."""
    unknown, rng = ground.values(ground.unknown), np.random.default_rng(SEED)
    strange = round(share * ground.window)
    for _ in range(count):
        drawn = [
            rng.choice(values, rows, replace=rows > len(values))
            for values, rows in ((known, ground.window - strange), (unknown, strange))
        ]
        yield ground.profile.open_set(ground.profile.count_values(np.concatenate(drawn)))


def line(title: str, share: float, found: list[OpenSet]) -> str:
    """One line of the table."""
    estimate, low, high = (
        np.array([getattr(one, name) for one in found]) for name in ("share", "low", "high")
    )
    return (
        f"{title:24} {share:7.0%} {estimate.mean():9.1%} {low.mean():7.1%} {high.mean():7.1%}"
        f" {(low > share).mean():9.1%} {(low > 0).mean():7.0%}"
    )


def table(title: str, make: Callable[[int], Ground], seeds: int, count: int) -> None:
    """Print one data set's lines."""
    grounds = [make(seed) for seed in range(seeds)]
    print(f"\n{title}, windows of {grounds[0].window} rows, {seeds} seeds of {count} windows")
    print(f"{'':24} {'true':>7} {'estimate':>9} {'low':>7} {'high':>7} too high  a sign")

    def of_all(share: float, harder: bool) -> list[OpenSet]:
        return [
            each
            for one in grounds
            for each in windows(one, one.values(one.harder if harder else one.known), share, count)
        ]

    for share in SHARES:
        print(line("", share, of_all(share, harder=False)), flush=True)
    print(line("known rows harder", 0.0, of_all(0.0, harder=True)), flush=True)


def main() -> int:
    """Print a table for each data set."""
    parser = argparse.ArgumentParser(prog="benchmarks.open_set")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the public data")
    given = parser.parse_args()
    table("digits, 8 classes known", digits, given.seeds, given.windows)
    if (given.data / CLINC_FILE).is_file():
        table(
            "CLINC150, 150 intents known",
            lambda seed: clinc(seed, given.data),
            given.seeds,
            given.windows,
        )
    else:
        print(f"CLINC150 is skipped: no {CLINC_FILE} in {given.data} (--data)")
    return 0


def _rows(pixels: Floats) -> Tensor:
    return torch.from_numpy(pixels.astype(np.float32))


if __name__ == "__main__":
    sys.exit(main())
