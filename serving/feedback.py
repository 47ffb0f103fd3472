"""Labels: joined to their predictions, scored for every version that answered, and acted on.

The labels and losses are one transaction, which takes the next number among the model's calls
(`registry.losses.begin_call`); `serving.following` feeds the detectors by these numbers. A database
that is away costs a retry and never a label counted twice.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy.orm import Session

from homeostat.errors import HomeostatError
from models.learner import Learner
from registry.labels import (
    LabelItem,
    LabelOutcome,
    record_labels,
    record_losses,
    revise_losses,
)
from registry.log import predictions_elsewhere
from registry.losses import LossCall, begin_call
from serving.following import Following
from serving.parts import Parts
from serving.scoring import Scored, score

logger = logging.getLogger(__name__)

Status = Literal["accepted", "duplicate", "conflict", "revised", "unknown", "invalid"]
Calls = dict[str, LossCall]  # by model


@dataclass(frozen=True)
class LabelResult:
    """What became of one label; `detail` says what was wrong with an invalid one."""

    id: str
    status: Status
    detail: str = ""


class _Invalid(Exception):
    """Labels that no version of their model can be judged by; nothing of the call was kept."""

    def __init__(self, reasons: dict[int, str]) -> None:
        super().__init__("invalid labels")
        self.reasons = reasons


class Feedback:
    """Takes labels, and follows those that other gateways took.

    Args:
        parts: The gateway's.
        drain: Brings every prediction given out so far to the database.
        decide: Looks whether a model's evidence now asks for a rollback.
    """

    def __init__(
        self, parts: Parts, drain: Callable[[], object], decide: Callable[[str], object]
    ) -> None:
        self._parts = parts
        self._drain = drain
        self._decide = decide
        self.prepare: Callable[[], object] = lambda: None
        """Called before labels are taken: brings the detectors to where they were left."""
        # One call at a time: the detectors are to see labels in one order.
        self._lock = threading.RLock()
        self.following = Following(parts)

    def take(
        self, items: Sequence[LabelItem], models: Collection[str] | None = None
    ) -> list[LabelResult]:
        """Take labels; one result for each, in order.

        When the evidence of these labels decides for a rollback, traffic has gone back when
        this returns.

        Args:
            items: The labels.
            models: Whose predictions the sender may know of; None: all. A prediction of another
                model is as one unknown, and its label is dropped.

        Raises:
            Unavailable: the database is away; none of the labels was kept.
        """
        with self._lock:
            self.prepare()
            self._drain()  # a label may be quicker than the log of its prediction
            theirs = self._theirs(items, models)
            invalid: dict[int, str] = {}
            while True:
                asked = [index for index in theirs if index not in invalid]
                try:
                    outcomes, calls = self._record([items[index] for index in asked])
                    break
                except _Invalid as error:
                    invalid |= {asked[place]: why for place, why in error.reasons.items()}
            results: list[LabelResult] = [
                LabelResult(item.prediction_id, "invalid", invalid[index])
                if index in invalid
                else LabelResult(item.prediction_id, "unknown")
                for index, item in enumerate(items)
            ]
            for index, outcome in zip(asked, outcomes, strict=True):
                results[index] = LabelResult(outcome.prediction_id, outcome.status)
            for result in results:
                self._parts.metrics.labels.labels(result.status).inc()
            self._feed(calls)
        return results

    def joined(self, session: Session, outcomes: Sequence[LabelOutcome]) -> Callable[[], None]:
        """Score labels that waited for their predictions, in the transaction that joins them.

        Returns:
            What to call once that transaction is kept: it feeds the detectors.
        """
        scored, reasons = score(outcomes, self._learner)
        for place, why in reasons.items():
            logger.warning(
                "the label of %s came first and is of no use: %s",
                outcomes[place].prediction_id,
                why,
            )
        calls = self._keep(session, scored)
        return lambda: self._feed(calls)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """While this is held no label is taken, and no detector of losses moves."""
        with self._lock, self.following.lock:
            yield

    def _theirs(self, items: Sequence[LabelItem], models: Collection[str] | None) -> list[int]:
        """Places of the labels that may be taken."""
        if models is None:
            return list(range(len(items)))
        with self._parts.reading() as session:
            ids = {item.prediction_id for item in items}
            others = predictions_elsewhere(session, ids, models)
        return [at for at, item in enumerate(items) if item.prediction_id not in others]

    def _record(self, items: Sequence[LabelItem]) -> tuple[list[LabelOutcome], Calls]:
        now = self._parts.clock()
        with self._parts.writing() as session:
            outcomes = record_labels(session, items, now)
            scored, reasons = score(outcomes, self._learner)
            if reasons:
                raise _Invalid(reasons)  # leaves the transaction, which keeps nothing
            calls = self._keep(session, scored)
        return outcomes, calls

    def _keep(self, session: Session, scored: Sequence[Scored]) -> Calls:
        """Keep losses under the next number of each model; those of revised labels beside them."""
        now = self._parts.clock()
        later = [one for one in scored if one.revised]
        revise_losses(
            session,
            [
                (one.prediction_id, version, loss, now)
                for one in later
                for version, loss in one.row.losses.items()
            ],
        )
        calls: Calls = {}
        for model in sorted({one.model for one in scored if not one.revised}):
            own = [one for one in scored if one.model == model and not one.revised]
            call = begin_call(session, model)
            record_losses(
                session,
                [
                    # Now, also for a label that came before its prediction.
                    (one.prediction_id, version, loss, now)
                    for one in own
                    for version, loss in one.row.losses.items()
                ],
                call,
            )
            own.sort(key=lambda one: (one.row.at, one.prediction_id))
            calls[model] = replace(call, rows=tuple(one.row for one in own))
        return calls

    def _feed(self, calls: Calls) -> None:
        for model, call in calls.items():
            if model not in self._parts.watches:  # a model that the settings no longer have
                continue
            # What was kept is answered as kept: a database that is away now costs a look later.
            try:
                self.following.take_in(model, call)
            except HomeostatError as error:
                logger.warning("the labels of %s count later: %s", model, error)
            self._decide(model)

    def _learner(self, model: str, version: int) -> Learner | None:
        """The learner of the version that answered, or the champion's where that is long gone."""
        known = self._parts.library.learner(model, version)
        if known is not None:
            return known
        split = self._parts.fleet.snapshot().get(model)
        return split.champion.learner if split else None
