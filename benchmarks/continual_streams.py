"""What `benchmarks.continual` teaches, task after task: digits, MNIST, intents by domain.

Shapes: N rows, D pixels, T tasks. Rows are told apart by the seed; no held-out row is ever taught.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import rotate
from torch import Tensor, nn

from homeostat.schema import Feature, Task
from models import (
    Budget,
    Digits,
    Examples,
    Label,
    Row,
    Text,
    find_classes,
    initialise,
    read_dataset,
)
from models.encoder import Encoder

TASKS = 5
HELD_OUT = 0.2
TURN = 45.0  # degrees from one task to the next
MNIST_SIDE = 28
MNIST_ROWS = 5_000
MNIST_FILE = "mnist.npz"
CLINC_FILE = "clinc150_full.json.gz"
DOMAINS_FILE = "clinc150_domains.json"
PAIRS = tuple((2 * task, 2 * task + 1) for task in range(TASKS))

Pixels = NDArray[np.float64]
Truths = NDArray[np.int64]


@dataclass(frozen=True)
class Stream:
    """Tasks in the order in which they come.

    Args:
        learner: Whose head has all classes from the start.
        taught: The new rows of each task.
        held_out: The rows that each task is judged by.
        memory_rows: What may be kept of the tasks before.
        budget: Of each training.
    """

    learner: Encoder
    taught: tuple[Examples, ...]
    held_out: tuple[Examples, ...]
    memory_rows: int
    budget: Budget


def split_digits(seed: int) -> Stream:
    """1,797 images of 8x8, two classes a task, 100 rows kept."""
    pixels, truths = _digits(seed)
    taught, held = _parted(pixels, truths)
    return Stream(Digits(), _by_class(*taught), _by_class(*held), 100, Budget(epochs=15))


def rotated_digits(seed: int) -> Stream:
    """The same images, all classes in every task, each task's turned 45 degrees further."""
    return _turning(seed, TASKS, TURN)


def ten_turns(seed: int) -> Stream:
    """Ten regimes of the same images, each turned 36 degrees further: a long history."""
    return _turning(seed, 10, 36.0)


def _turning(seed: int, tasks: int, degrees: float) -> Stream:
    pixels, truths = _digits(seed)
    taught, held = _parted(pixels, truths)

    def as_tasks(part: tuple[Pixels, Truths]) -> tuple[Examples, ...]:
        return tuple(_examples(turned(part[0], t * degrees), part[1]) for t in range(tasks))

    return Stream(Digits(), as_tasks(taught), as_tasks(held), 100, Budget(epochs=15))


def split_mnist(seed: int, folder: Path) -> Stream:
    """5,000 of MNIST's images of 28x28, two classes a task, 200 rows kept; its own test set."""
    with np.load(folder / MNIST_FILE) as data:
        chosen = np.random.default_rng(seed).permutation(len(data["x_train"]))[:MNIST_ROWS]
        taught = (data["x_train"][chosen], data["y_train"][chosen].astype(np.int64))
        held = (data["x_test"], data["y_test"].astype(np.int64))
    return Stream(
        Pictures(),
        _by_class(taught[0].reshape(len(taught[0]), -1) / 255.0, taught[1]),
        _by_class(held[0].reshape(len(held[0]), -1) / 255.0, held[1]),
        200,
        Budget(epochs=5),
    )


def clinc(seed: int, folder: Path) -> Stream:
    """CLINC150's 150 intents, the 15 of a domain a task, in an order that the seed draws."""
    _, intents = clinc_texts(folder, "train")
    learner = Text(classes=tuple(sorted(set(intents))))
    return in_domains(
        seed, folder, learner, lambda part: learner.encode(clinc_texts(folder, part)[0])
    )


def clinc_texts(folder: Path, part: str) -> tuple[list[str], list[str]]:
    """The texts and the intents of CLINC150's part `train` or `test`."""
    with gzip.open(folder / CLINC_FILE) as file:
        texts, intents = zip(*json.load(file)[part], strict=True)
    return list(texts), list(intents)


def in_domains(
    seed: int, folder: Path, learner: Encoder, encoded: Callable[[str], Tensor]
) -> Stream:
    """CLINC150 by domain, in an order that the seed draws; `encoded` gives a part's rows (N, D)."""
    domains = json.loads((folder / DOMAINS_FILE).read_text())
    order = np.random.default_rng(seed).permutation(sorted(domains))

    def as_tasks(part: str) -> tuple[Examples, ...]:
        x, y = encoded(part), learner.targets(clinc_texts(folder, part)[1])
        places = [torch.isin(y, learner.targets(domains[name])) for name in order]
        return tuple(Examples(x[place], y[place]) for place in places)

    return Stream(learner, as_tasks("train"), as_tasks("test"), 500, Budget(epochs=10))


def turned(pixels: Pixels, degrees: float) -> Pixels:
    """Images (N, 64) turned about their middle, ink from 0 to 16 as before."""
    images = pixels.reshape(-1, 8, 8)
    found = rotate(images, degrees, axes=(2, 1), reshape=False, order=1, mode="constant")
    return np.asarray(np.clip(found, 0.0, 16.0).reshape(-1, 64))


def together(parts: Sequence[Examples]) -> Examples:
    """The rows of several tasks as one data set."""
    return Examples(torch.cat([one.x for one in parts]), torch.cat([one.y for one in parts]))


def of_regime(rows: Examples, number: int) -> Examples:
    """The same rows, all of one regime."""
    return dataclasses.replace(rows, regime=torch.full((len(rows),), number))


def _digits(seed: int) -> tuple[Pixels, Truths]:
    data = read_dataset("builtin:digits", "")
    order = np.random.default_rng(seed).permutation(len(data))
    return np.array(data.rows, dtype=np.float64)[order], np.array(data.labels, np.int64)[order]


def _parted(pixels: Pixels, truths: Truths) -> tuple[tuple[Pixels, Truths], tuple[Pixels, Truths]]:
    cut = round(len(truths) * (1.0 - HELD_OUT))
    return (pixels[:cut], truths[:cut]), (pixels[cut:], truths[cut:])


def _by_class(pixels: Pixels, truths: Truths) -> tuple[Examples, ...]:
    places = [np.isin(truths, pair) for pair in PAIRS]
    return tuple(_examples(pixels[place], truths[place]) for place in places)


def _examples(pixels: Pixels, truths: Truths) -> Examples:
    return Examples(torch.from_numpy(pixels.astype(np.float32)), torch.from_numpy(truths))


@dataclass(frozen=True)
class Pictures(Encoder):
    """Images as numbers from 0 to 1, MNIST's if not told, and one hidden layer."""

    task: ClassVar[Task] = "classification"
    classes: tuple[Label, ...] = tuple(range(10))
    pixels: int = MNIST_SIDE * MNIST_SIDE
    hidden: int = 256

    @property
    def features(self) -> tuple[Feature, ...]:
        """None: nothing watches a benchmark."""
        return ()

    def config(self) -> dict[str, Any]:
        """As `Learner.config`."""
        return {"classes": list(self.classes), "pixels": self.pixels, "hidden": self.hidden}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """As `Learner.from_config`."""
        return cls(tuple(config["classes"]), int(config["pixels"]), int(config["hidden"]))

    @classmethod
    def from_data(
        cls,
        rows: Sequence[Row],
        labels: Sequence[Label],
        options: Mapping[str, Any],
    ) -> Self:
        """As `Learner.from_data`."""
        return cls(find_classes(labels), len(rows[0]), **options)

    @property
    def represented(self) -> int:
        """As `Encoder.represented`."""
        return self.pixels

    def represent(self, batch: Tensor) -> Tensor:
        """As `Encoder.represent`."""
        return batch

    @property
    def grid(self) -> tuple[int, int]:
        """As `Encoder.grid`: a square."""
        return math.isqrt(self.pixels), math.isqrt(self.pixels)

    def build(self, generator: torch.Generator) -> nn.Module:
        """As `Learner.build`."""
        hidden = nn.Linear(self.pixels, self.hidden)
        layers = hidden, nn.ReLU(), nn.Linear(self.hidden, len(self.classes))
        return initialise(nn.Sequential(*layers), generator)

    def encode(self, rows: Sequence[Row]) -> Tensor:
        """As `Learner.encode`."""
        return torch.tensor(rows, dtype=torch.float32)
