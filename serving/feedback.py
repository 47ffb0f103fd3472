"""Labels: joined to their predictions, scored for every version that answered, and acted on.

The labels and losses are one transaction. Only what it kept feeds the detectors, so a database
that is away costs a retry and never a label counted twice.

The detectors see labels in the order in which they come, call by call. Where the policy sets
`monitor.label_delay_seconds`, they see them by the time of their predictions instead, once those
are so old: then labels that come sooner for wrong answers than for right ones mislead nobody,
and evidence, with the rollback that it may lead to, waits as long.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from homeostat.errors import HomeostatError, InvalidLabel, LearnerError
from models.learner import Learner
from registry.labels import LabelItem, LabelOutcome, record_labels, record_losses
from registry.log import PredictionRecord, predictions_elsewhere
from serving.maturing import Maturing
from serving.parts import Parts
from serving.runtime import Outputs
from serving.watch import LabelledLoss

logger = logging.getLogger(__name__)

Status = Literal["accepted", "duplicate", "conflict", "unknown", "invalid"]


@dataclass(frozen=True)
class LabelResult:
    """What became of one label; `detail` says what was wrong with an invalid one."""

    id: str
    status: Status
    detail: str = ""


@dataclass(frozen=True)
class _Scored:
    """Losses of accepted labels: of one model, in the order of the outcomes."""

    model: str
    row: LabelledLoss


class _Invalid(Exception):
    """Labels that no version of their model can be judged by; nothing of the call was kept."""

    def __init__(self, reasons: dict[int, str]) -> None:
        super().__init__("invalid labels")
        self.reasons = reasons


class Feedback:
    """Takes labels.

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
        # Labels that waited for their predictions come by another thread: held while either feeds.
        self._feeding = threading.RLock()
        self._maturing = Maturing()

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
                    outcomes, scored = self._record([items[index] for index in asked])
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
            self._feed(scored)
        return results

    def joined(self, session: Session, outcomes: Sequence[LabelOutcome]) -> Callable[[], None]:
        """Score labels that waited for their predictions, in the transaction that joins them.

        Returns:
            What to call once that transaction is kept: it feeds the detectors.
        """
        scored, reasons = self._score(outcomes)
        for place, why in reasons.items():
            logger.warning(
                "the label of %s came first and is of no use: %s",
                outcomes[place].prediction_id,
                why,
            )
        self._keep(session, outcomes, scored)
        rows = [one for one in scored if one is not None]
        return lambda: self._feed(rows)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """While this is held no label is taken, and no detector of losses moves."""
        with self._lock, self._feeding:
            yield

    def release(self) -> None:
        """Feed what the policy held back and is old enough now."""
        for model in self._parts.watches:
            self._take_in(model, ())

    def replay(self, model: str, calls: Sequence[Sequence[LabelledLoss]]) -> None:
        """Feed what the detectors of a model lack, call by call as it came, and nothing else."""
        with self._feeding:
            self._maturing.forget(model)
            for rows in calls:
                self._take_in(model, rows)

    def _theirs(self, items: Sequence[LabelItem], models: Collection[str] | None) -> list[int]:
        """Places of the labels that may be taken."""
        if models is None:
            return list(range(len(items)))
        with self._parts.reading() as session:
            ids = {item.prediction_id for item in items}
            others = predictions_elsewhere(session, ids, models)
        return [at for at, item in enumerate(items) if item.prediction_id not in others]

    def _record(self, items: Sequence[LabelItem]) -> tuple[list[LabelOutcome], list[_Scored]]:
        now = self._parts.clock()
        with self._parts.writing() as session:
            outcomes = record_labels(session, items, now)
            scored, reasons = self._score(outcomes)
            if reasons:
                raise _Invalid(reasons)  # leaves the transaction, which keeps nothing
            self._keep(session, outcomes, scored)
        return outcomes, [one for one in scored if one is not None]

    def _keep(
        self,
        session: Session,
        outcomes: Sequence[LabelOutcome],
        scored: Sequence[_Scored | None],
    ) -> None:
        now = self._parts.clock()
        record_losses(
            session,
            [
                # Now, also for a label that came before its prediction: who feeds a detector again
                # after a restart asks what was known when it was saved.
                (outcome.prediction_id, version, loss, now)
                for outcome, one in zip(outcomes, scored, strict=True)
                if one is not None
                for version, loss in one.row.losses.items()
            ],
        )

    def _feed(self, scored: Sequence[_Scored]) -> None:
        models: dict[str, list[LabelledLoss]] = {}
        for one in scored:
            models.setdefault(one.model, []).append(one.row)
        for model, rows in models.items():
            if model not in self._parts.watches:  # a model that the settings no longer have
                continue
            self._take_in(model, rows)
            self._decide(model)

    def _take_in(self, model: str, rows: Sequence[LabelledLoss]) -> None:
        delay = self._parts.policy(model).monitor.label_delay_seconds
        with self._feeding:
            if delay:
                self._maturing.add(model, rows)
                until = self._parts.clock() - timedelta(seconds=delay)
                rows = self._maturing.ripe(model, until)
            if rows:
                self._parts.watches[model].label(rows)

    def _score(
        self, outcomes: Sequence[LabelOutcome]
    ) -> tuple[list[_Scored | None], dict[int, str]]:
        """Losses of each accepted outcome by version, and why some labels are invalid."""
        losses: dict[int, dict[int, float]] = {}
        moments: dict[int, tuple[str, datetime]] = {}
        groups: dict[tuple[str, int, int], list[tuple[int, Outputs]]] = {}
        for place, outcome in enumerate(outcomes):
            prediction = outcome.prediction
            if outcome.status != "accepted" or prediction is None:
                continue
            moments[place] = (prediction.model, prediction.at)
            losses[place] = {}
            for version, output in _answers(prediction):
                key = (prediction.model, version, len(output))
                groups.setdefault(key, []).append((place, output))
        reasons: dict[int, str] = {}
        for (model, version, _), members in groups.items():
            learner = self._learner(model, version)
            if learner is None:
                continue
            for place, loss in _scores(learner, members, outcomes, reasons).items():
                losses[place][version] = loss
        scored = [
            _Scored(moments[place][0], LabelledLoss(moments[place][1], losses[place]))
            if place in moments and losses[place]
            else None
            for place in range(len(outcomes))
        ]
        return scored, reasons

    def _learner(self, model: str, version: int) -> Learner | None:
        """The learner of the version that answered, or the champion's where that is long gone."""
        known = self._parts.library.learner(model, version)
        if known is not None:
            return known
        split = self._parts.fleet.snapshot().get(model)
        return split.champion.learner if split else None


def _answers(prediction: PredictionRecord) -> list[tuple[int, Outputs]]:
    return [(prediction.version, prediction.output), *prediction.shadows]


def _scores(
    learner: Learner,
    members: Sequence[tuple[int, Outputs]],
    outcomes: Sequence[LabelOutcome],
    reasons: dict[int, str],
) -> dict[int, float]:
    """Loss by place; a label that cannot be used gets its reason instead."""
    places = [place for place, _ in members]
    outputs = np.stack([output for _, output in members])
    labels = [outcomes[place].value for place in places]
    try:
        return dict(zip(places, _score(learner, outputs, labels), strict=True))
    except HomeostatError:
        found: dict[int, float] = {}
        for place, output, label in zip(places, outputs, labels, strict=True):
            try:
                found[place] = _score(learner, output[None], [label])[0]
            except InvalidLabel as error:
                reasons[place] = str(error)
            except HomeostatError:
                logger.exception("a label of version cannot be scored")
        return found


def _score(learner: Learner, outputs: NDArray[np.float32], labels: list[Any]) -> list[float]:
    try:
        losses = np.asarray(learner.score(outputs, labels), dtype=np.float64)
    except HomeostatError:
        raise
    except Exception as error:
        raise LearnerError(f"The learner failed in score: {error}") from error
    if losses.shape != (len(labels),) or not bool(((losses >= 0) & (losses <= 1)).all()):
        raise LearnerError(f"The learner scored {len(labels)} labels as {losses!r}, not in [0, 1].")
    return [float(loss) for loss in losses]
