"""Lessons: the rows of one regime, split once into what is learnt and what is judged by.

What is held out is frozen with the version and never trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homeostat.policy import Policy
from models.data import Dataset, sides, split

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
    train, held_out = (
        (dataset.part(places), tuple(ids[place] for place in places))
        for places in sides(dataset.rows, policy.retrain.holdout, policy.seed)
    )
    return Lesson(regime, dataset.digest, train[0], held_out[0], train[1], held_out[1])
