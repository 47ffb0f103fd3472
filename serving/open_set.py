"""Rows of no class that the champion knows: as estimated without labels, and as labels say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from homeostat.errors import HomeostatError
from models.learner import Label, Learner
from models.torch_learner import guarded
from monitoring.open_set import OpenSet, Unseen, unseen
from registry.label_report import newest_labels
from serving.gateway import Gateway

NEWEST = 1_000  # labels that are looked at


@dataclass(frozen=True)
class Strange:
    """Of one model: the estimate of the last hour, and what the newest labels say beside it.

    Args:
        estimate: Without labels.
        measured: By labels; None where there are no classes, or no label has come.
    """

    estimate: OpenSet
    measured: Unseen | None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        measured = self.measured.to_json() if self.measured else None
        return {**self.estimate.to_json(), "measured": measured}


def strange_rows(gateway: Gateway, session: Session, model: str) -> Strange:
    """What is known of a model's rows of no known class.

    Raises:
        UnknownModel: there is no such model.
    """
    split = gateway.fleet.get(model)
    measured = None
    if split is not None and split.champion.learner.task == "classification":
        learner = split.champion.learner
        measured = told_by(learner, newest_labels(session, model, NEWEST))
    return Strange(gateway.watches[model].open_set(), measured)


def told_by(learner: Learner, labels: Sequence[Label]) -> Unseen | None:
    """How many of some labels are no class of a learner's; None where none of them can be read.

    One that came before its prediction was taken unread, and may be no truth of this task at all.
    """
    try:
        known = guarded(learner.targets, labels).tolist() if labels else []
    except HomeostatError:
        known = [place for place in map(partial(_place, learner), labels) if place is not None]
    return unseen(len(known), sum(place < 0 for place in known)) if known else None


def _place(learner: Learner, label: Label) -> int | None:
    try:
        return int(guarded(learner.targets, [label])[0])
    except HomeostatError:
        return None
