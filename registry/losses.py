"""Losses: what each version that answered a labelled prediction lost on it, shadows included."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, Subquery, and_, func, select
from sqlalchemy.orm import Session

from registry.ledger import ROUTING
from registry.statements import insert, insert_new
from registry.tables import LabelCallRow, LedgerRow, LossRevisionRow, LossRow, PredictionRow

CALLS_PER_READ = 500


@dataclass(frozen=True)
class LabelledLoss:
    """A labelled prediction: when it was made, and each answering version's loss in [0, 1]."""

    at: datetime
    losses: Mapping[int, float]


@dataclass(frozen=True)
class LossCall:
    """Losses that were kept in one transaction.

    Args:
        number: Its place in the order of a model's labels: 1, 2, 3, without a gap.
        generation: Of the routing as that transaction saw it; it never falls as numbers grow.
        rows: In the order of prediction.
    """

    number: int
    generation: int
    rows: tuple[LabelledLoss, ...]


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


def begin_call(session: Session, model: str) -> LossCall:
    """Take the next number among a model's labels; the caller records the losses under it.

    Whoever takes the next one waits until this transaction has ended, so numbers show in their
    order: who has seen one has seen all before it. Of several models take them by name.
    """
    statement = insert(session, LabelCallRow).values(model=model, number=1)
    number = session.scalar(
        statement.on_conflict_do_update(
            index_elements=[LabelCallRow.model], set_={"number": LabelCallRow.number + 1}
        ).returning(LabelCallRow.number)
    )
    routing = select(func.max(LedgerRow.generation)).where(
        LedgerRow.model == model, LedgerRow.kind == ROUTING
    )
    return LossCall(number or 1, session.scalar(routing) or 0, ())


def newest_call(session: Session, model: str) -> int:
    """The number of a model's newest labels; 0 before the first."""
    query = select(LabelCallRow.number).where(LabelCallRow.model == model)
    return session.scalar(query) or 0


def record_losses(
    session: Session,
    losses: Iterable[tuple[str, int, float, datetime]],
    call: LossCall | None = None,
) -> None:
    """Write (prediction id, version, loss in [0, 1], labelled at); what is there stays."""
    number, generation = (call.number, call.generation) if call else (0, 0)
    rows = [
        {
            "prediction_id": prediction_id,
            "version": version,
            "loss": loss,
            "labelled_at": at,
            "call": number,
            "generation": generation,
        }
        for prediction_id, version, loss, at in losses
    ]
    if rows:
        session.execute(insert_new(session, LossRow), rows)


def revise_losses(session: Session, losses: Iterable[tuple[str, int, float, datetime]]) -> None:
    """Add (prediction id, version, loss in [0, 1], revised at); what was believed before stays.

    Evidence does not take them: a bet that was paid is not taken back, and the rows that somebody
    revised are no fair sample of all.
    """
    names = ("prediction_id", "version", "loss", "at")
    rows = [dict(zip(names, line, strict=True)) for line in losses]
    if rows:
        session.execute(insert(session, LossRevisionRow), rows)


def revisions(as_of: datetime | None = None) -> Subquery:
    """The newest revised loss of each prediction and version, as a table to join; see `known`."""
    newest = select(func.max(LossRevisionRow.id)).group_by(
        LossRevisionRow.prediction_id, LossRevisionRow.version
    )
    if as_of is not None:
        newest = newest.where(LossRevisionRow.at <= as_of)
    return (
        select(LossRevisionRow.prediction_id, LossRevisionRow.version, LossRevisionRow.loss)
        .where(LossRevisionRow.id.in_(newest))
        .subquery()
    )


def revised(table: Subquery) -> ColumnElement[bool]:
    """Joins (outer) `revisions` to the losses."""
    return and_(table.c.prediction_id == LossRow.prediction_id, table.c.version == LossRow.version)


def known(table: Subquery) -> ColumnElement[float]:
    """The loss as `revisions`, joined by `revised`, has it; the first where there is none."""
    return func.coalesce(table.c.loss, LossRow.loss)


def newest_losses(session: Session, model: str, version: int, limit: int) -> list[float]:
    """The losses of the newest labelled answers of a version, at most `limit`, newest first."""
    later = revisions()
    query = (
        select(known(later))
        .select_from(PredictionRow)
        .join(
            LossRow,
            (LossRow.prediction_id == PredictionRow.id)
            & (LossRow.version == PredictionRow.version),
        )
        .outerjoin(later, revised(later))
        .where(PredictionRow.model == model, PredictionRow.version == version)
        .order_by(PredictionRow.at.desc())
        .limit(limit)
    )
    return [float(loss) for loss in session.scalars(query)]


def loss_series(
    session: Session,
    model: str,
    start: datetime,
    end: datetime,
    *,
    shadows: bool = False,
    every: int = 1,
) -> list[LossPoint]:
    """Losses of predictions made in [start, end), in the order of prediction.

    Args:
        session: Open transaction.
        model: The registered model's name.
        start: The first moment.
        end: The first moment that is no longer taken.
        shadows: Also those of versions whose answers nobody saw.
        every: Of each so many labelled predictions one is taken.
    """
    answered, later = LossRow.version == PredictionRow.version, revisions()
    query = (
        select(
            PredictionRow.id,
            PredictionRow.at,
            LossRow.version,
            known(later),
            answered,
            LossRow.labelled_at,
        )
        .join(LossRow, LossRow.prediction_id == PredictionRow.id)
        .outerjoin(later, revised(later))
        .where(PredictionRow.model == model, PredictionRow.at >= start, PredictionRow.at < end)
        .order_by(PredictionRow.at, PredictionRow.id, LossRow.version)
    )
    if not shadows:
        query = query.where(answered)
    if every > 1:
        order = func.row_number().over(order_by=(PredictionRow.at, PredictionRow.id))
        places = _within(select(PredictionRow.id, order.label("place")), model, start, end)
        numbered = places.subquery()
        query = query.join(numbered, numbered.c.id == PredictionRow.id)
        query = query.where(numbered.c.place % every == 0)
    return [
        LossPoint(prediction_id, at, version, loss, bool(own), labelled_at)
        for prediction_id, at, version, loss, own, labelled_at in session.execute(query)
    ]


def count_losses(session: Session, model: str, start: datetime, end: datetime) -> int:
    """How many predictions made in [start, end) have a loss of the version that answered."""
    return session.scalar(_within(select(func.count()), model, start, end)) or 0


def _within(query: Select[Any], model: str, start: datetime, end: datetime) -> Select[Any]:
    return (
        query.select_from(PredictionRow)
        .join(LossRow, LossRow.prediction_id == PredictionRow.id)
        .where(PredictionRow.model == model, PredictionRow.at >= start, PredictionRow.at < end)
        .where(LossRow.version == PredictionRow.version)
    )


def mean_loss(
    session: Session, model: str, version: int, start: datetime, end: datetime
) -> tuple[int, float]:
    """How many predictions made in [start, end] have a loss of a version, and the mean of it.

    With what is known now: revised labels count as they were revised.
    """
    later = revisions()
    query = (
        select(func.count(), func.avg(known(later)))
        .select_from(LossRow)
        .join(PredictionRow, PredictionRow.id == LossRow.prediction_id)
        .outerjoin(later, revised(later))
        .where(
            PredictionRow.model == model,
            PredictionRow.at.between(start, end),
            LossRow.version == version,
        )
    )
    count, mean = session.execute(query).one()
    return count, float(mean or 0.0)


def loss_calls(
    session: Session,
    model: str,
    after: int,
    *,
    generation: int = 0,
    until: int | None = None,
    younger: datetime | None = None,
) -> list[LossCall]:
    """Losses by the call that they came with, in the order of the calls.

    Args:
        session: Open transaction.
        model: The registered model's name.
        after: Only calls with a larger number.
        generation: Only calls under this routing or a later one.
        until: Up to this call; not given, `CALLS_PER_READ` of them.
        younger: Only predictions made after that moment.
    """
    last = after + CALLS_PER_READ if until is None else until
    query = (
        select(
            LossRow.call,
            LossRow.generation,
            PredictionRow.at,
            PredictionRow.id,
            LossRow.version,
            LossRow.loss,
        )
        .join(PredictionRow, PredictionRow.id == LossRow.prediction_id)
        .where(
            PredictionRow.model == model,
            LossRow.call > after,
            LossRow.call <= last,
            LossRow.generation >= generation,
        )
        .order_by(LossRow.call, PredictionRow.at, PredictionRow.id, LossRow.version)
    )
    if younger is not None:
        query = query.where(PredictionRow.at > younger)
    calls = []
    found = session.execute(query)
    for (number, then), lines in itertools.groupby(found, key=lambda line: tuple(line[:2])):
        rows = [
            LabelledLoss(at, {version: loss for *_, version, loss in own})
            for (at, _), own in itertools.groupby(lines, key=lambda line: tuple(line[2:4]))
        ]
        calls.append(LossCall(number, then, tuple(rows)))
    return calls
