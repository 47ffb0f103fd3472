"""Lessons: the rows of one regime, split once into what is learnt and what is judged by.

What is held out is frozen with the version and never trained on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from homeostat.policy import Policy
from models.data import Dataset, split
from models.learner import Row

FIRST_REGIME = 0


@dataclass(frozen=True)
class Lesson:
    """The rows of one regime: to learn from, and held out to judge by.

    `digest` is of the data set before the split. `train_ids` and `held_out_ids` are the
    predictions that the rows came from; empty for a data set that is no log.
    """

    regime: int
    digest: str
    train: Dataset
    held_out: Dataset
    train_ids: tuple[str, ...] = ()
    held_out_ids: tuple[str, ...] = ()


def first_lesson(dataset: Dataset, policy: Policy) -> Lesson:
    """The policy's own data set, split; the same data gives the same split.

    Raises:
        DataError: too few rows to split.
    """
    train, held_out = split(dataset, policy.retrain.holdout, policy.seed)
    return Lesson(FIRST_REGIME, dataset.digest, train, held_out)


def next_lesson(dataset: Dataset, ids: Sequence[str], policy: Policy, regime: int) -> Lesson:
    """Logged rows of a new regime, split; `ids` are their predictions.

    Raises:
        DataError: too few rows to split.
    """
    train, held_out = split(dataset, policy.retrain.holdout, policy.seed)
    train_ids, held_out_ids = _ids_of(train, dataset, ids), _ids_of(held_out, dataset, ids)
    return Lesson(regime, dataset.digest, train, held_out, train_ids, held_out_ids)


def _ids_of(part: Dataset, dataset: Dataset, ids: Sequence[str]) -> tuple[str, ...]:
    """The id of each row of a part; equal rows all stand in one part, in the same order."""
    waiting: dict[str, list[str]] = {}
    for row, one in zip(reversed(dataset.rows), reversed(ids), strict=True):
        waiting.setdefault(_content(row), []).append(one)
    return tuple(waiting[_content(row)].pop() for row in part.rows)


def _content(row: Row) -> str:
    return json.dumps(row, sort_keys=True)
