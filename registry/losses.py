"""Losses: what each version that answered a labelled prediction lost on it, shadows included."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.statements import insert_new
from registry.tables import LossRow, PredictionRow


@dataclass(frozen=True)
class LossPoint:
    """The loss of one version on one prediction.

    Args:
        prediction_id: Of the prediction.
        at: When it was predicted: evidence on labels is taken by this, not by arrival.
        version: Whose loss it is.
        loss: In [0, 1].
        answered: Whether this version's answer was the one given out.
        labelled_at: When the label was joined to the prediction.
    """

    prediction_id: str
    at: datetime
    version: int
    loss: float
    answered: bool
    labelled_at: datetime


def record_losses(session: Session, losses: Iterable[tuple[str, int, float, datetime]]) -> None:
    """Write (prediction id, version, loss in [0, 1], labelled at); what is there stays."""
    rows = [
        {"prediction_id": prediction_id, "version": version, "loss": loss, "labelled_at": at}
        for prediction_id, version, loss, at in losses
    ]
    if rows:
        session.execute(insert_new(session, LossRow), rows)


def loss_series(
    session: Session, model: str, start: datetime, end: datetime, *, shadows: bool = False
) -> list[LossPoint]:
    """Losses of predictions made in [start, end), in the order of prediction.

    Args:
        session: Open transaction.
        model: The registered model's name.
        start: The first moment.
        end: The first moment that is no longer taken.
        shadows: Also those of versions whose answers nobody saw.
    """
    answered = LossRow.version == PredictionRow.version
    query = (
        select(
            PredictionRow.id,
            PredictionRow.at,
            LossRow.version,
            LossRow.loss,
            answered,
            LossRow.labelled_at,
        )
        .join(LossRow, LossRow.prediction_id == PredictionRow.id)
        .where(PredictionRow.model == model, PredictionRow.at >= start, PredictionRow.at < end)
        .order_by(PredictionRow.at, PredictionRow.id, LossRow.version)
    )
    if not shadows:
        query = query.where(answered)
    return [
        LossPoint(prediction_id, at, version, loss, bool(own), labelled_at)
        for prediction_id, at, version, loss, own, labelled_at in session.execute(query)
    ]


def losses_labelled(
    session: Session,
    model: str,
    version: int,
    since: datetime,
    *,
    held: timedelta = timedelta(0),
    limit: int = 100_000,
) -> list[LossPoint]:
    """Losses on what a version answered and was labelled after a moment, as the labels came.

    Args:
        session: Open transaction.
        model: The registered model's name.
        version: Only predictions that it has a loss on are taken; all their losses are given.
        since: The labels came later.
        held: Also predictions younger than this at `since`, whenever their label came.
        limit: Losses of the version, the newest.
    """
    late = LossRow.labelled_at > since
    if held:
        late |= PredictionRow.at > since - held
    own = (
        select(PredictionRow.id, PredictionRow.at, PredictionRow.version, LossRow.labelled_at)
        .join(LossRow, LossRow.prediction_id == PredictionRow.id)
        .where(PredictionRow.model == model, LossRow.version == version, late)
        .order_by(LossRow.labelled_at.desc(), PredictionRow.at.desc(), PredictionRow.id.desc())
        .limit(limit)
        .subquery()
    )
    query = (
        select(
            own.c.id,
            own.c.at,
            LossRow.version,
            LossRow.loss,
            LossRow.version == own.c.version,
            own.c.labelled_at,
        )
        .join(LossRow, LossRow.prediction_id == own.c.id)
        .order_by(own.c.labelled_at, own.c.at, own.c.id, LossRow.version)
    )
    return [LossPoint(*row) for row in session.execute(query)]
