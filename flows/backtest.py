"""Replaying a recorded stream: what a rule of retraining would have made of it.

Rows come in batches: the version that serves answers them, their labels come `delay` rows later,
and the rule says whether another version serves from the next batch on. No server, no clock: time
is the row, and a day is `rows_per_day` rows.

Shapes: N rows of the stream, the first `warmup` of which train version 1.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from homeostat.errors import DataError, InputError
from models.data import Dataset
from models.evaluate import Evaluation, evaluate
from models.learner import Learner
from models.torch_learner import guarded

Losses = NDArray[np.float64]
MIN_WARMUP = 100
POINTS = 100  # of a curve


@dataclass(frozen=True)
class Course:
    """How a stream is replayed, all in rows.

    Args:
        warmup: The first rows, which train version 1 and are not counted.
        batch: Rows between two looks.
        delay: Rows between an answer and its label.
        rows_per_day: For what the policy gives in seconds: its cool-down and daily budget.
    """

    warmup: int = 2_000
    batch: int = 50
    delay: int = 0
    rows_per_day: int = 100_000

    def check(self, rows: int) -> None:
        """Refuse what cannot be replayed.

        Raises:
            InputError: a number that cannot be meant.
            DataError: the stream is no longer than the warm-up.
        """
        if self.warmup < MIN_WARMUP or self.batch < 1 or self.delay < 0 or self.rows_per_day < 1:
            raise InputError(
                f"{self} cannot be replayed.",
                remedy=f"Warm up with {MIN_WARMUP} rows or more; batches and days have 1 or more.",
            )
        if rows <= self.warmup:
            raise DataError(
                f"The stream has {rows} labelled rows and the warm-up takes {self.warmup}.",
                remedy="Give a longer stream, or a shorter --warmup.",
                rows=rows,
            )

    def seconds(self, rows: int) -> float:
        """How long so many rows take."""
        return rows * 86_400.0 / self.rows_per_day


@dataclass(frozen=True)
class Serving:
    """What answers: a learner and its module."""

    learner: Learner
    module: nn.Module


@dataclass
class Tally:
    """What a rule did: the rows before which it alarmed, put a new version in, or was refused."""

    alarms: list[int] = field(default_factory=list)
    retrains: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    rows_learnt: int = 0


@dataclass(frozen=True)
class Labelled:
    """Rows [start, stop) whose labels came, with the losses (stop - start,) of their answers."""

    start: int
    stop: int
    losses: Losses


class Rule(Protocol):
    """When to learn what; `serving` may be another one after each `labelled`."""

    name: str
    serving: Serving
    tally: Tally

    def answered(self, start: int, stop: int, evaluation: Evaluation) -> None:
        """The rows [start, stop) were answered; their losses are not known yet."""

    def labelled(self, rows: Labelled) -> None:
        """The labels of some rows came, in the order of the stream."""


@dataclass(frozen=True)
class Replayed:
    """What became of a stream under one rule.

    Args:
        rule: Its name.
        losses: (N - warmup,) of the answers, in [0, 1].
        tally: Alarms and retrains.
        cpu_seconds: Of answering, watching and learning, without the first training.
    """

    rule: str
    losses: Losses
    tally: Tally
    cpu_seconds: float

    @property
    def accuracy(self) -> float:
        """1 - mean loss of all answers."""
        return 1.0 - float(self.losses.mean())

    def curve(self, warmup: int) -> list[tuple[int, float]]:
        """(row, accuracy of the answers before it since the last point), `POINTS` at most."""
        parts = np.array_split(self.losses, min(POINTS, len(self.losses)))
        ends = warmup + np.cumsum([len(part) for part in parts])
        return [(int(end), 1.0 - float(part.mean())) for end, part in zip(ends, parts, strict=True)]


def replay(dataset: Dataset, rule: Rule, course: Course) -> Replayed:
    """Replay a stream under a rule, whose first version the warm-up has trained.

    Raises:
        InputError: a course that cannot be meant.
        DataError: too short a stream.
        InvalidRow: a row that the version cannot read.
        LearnerError: the learner's own code failed.
    """
    course.check(len(dataset))
    losses: Losses = np.zeros(len(dataset))
    known = course.warmup
    started = time.process_time()
    for start in range(course.warmup, len(dataset), course.batch):
        stop = min(start + course.batch, len(dataset))
        evaluation = _answer(rule.serving, dataset, start, stop)
        losses[start:stop] = evaluation.losses
        rule.answered(start, stop, evaluation)
        if (until := stop - course.delay) > known:
            rule.labelled(Labelled(known, until, losses[known:until]))
            known = until
    spent = time.process_time() - started
    return Replayed(rule.name, losses[course.warmup :], rule.tally, spent)


def part(dataset: Dataset, start: int, stop: int) -> Dataset:
    """The rows [start, stop) of a stream."""
    return Dataset.of(dataset.rows[start:stop], dataset.labels[start:stop])


def summary(replayed: Sequence[Replayed], warmup: int) -> list[dict[str, object]]:
    """Plain JSON of what came out, a line for each rule."""
    return [
        {
            "rule": one.rule,
            "accuracy": round(one.accuracy, 4),
            "alarms": one.tally.alarms,
            "retrains": one.tally.retrains,
            "refused": one.tally.refused,
            "rows_learnt": one.tally.rows_learnt,
            "cpu_seconds": round(one.cpu_seconds, 2),
            "curve": [[row, round(accuracy, 4)] for row, accuracy in one.curve(warmup)],
        }
        for one in replayed
    ]


def _answer(serving: Serving, dataset: Dataset, start: int, stop: int) -> Evaluation:
    rows = guarded(serving.learner.encode, dataset.rows[start:stop])
    return evaluate(serving.learner, serving.module, rows, dataset.labels[start:stop])
