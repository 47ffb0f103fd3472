"""Labels: truths joined to predictions by id, in any order, each case with one outcome.

| a label comes | outcome | kept |
|---|---|---|
| first for its prediction | `accepted` | yes |
| again with the same value | `duplicate` | the first is enough |
| again with another value | `conflict` | yes, beside the first, which stands |
| the same, with the word `revise` | `revised` | it stands; the former is `superseded`, and stays |
| for an id that is not in the log | `unknown` | yes, as an orphan, until the prediction shows up |
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, delete, func, select, text, update
from sqlalchemy.orm import Session

from homeostat.errors import Unavailable
from registry.json_text import storable, to_json
from registry.log import PredictionRecord, find_predictions, keep_rows
from registry.losses import (
    LossPoint,
    known,
    loss_series,
    record_losses,
    revise_losses,
    revised,
    revisions,
)
from registry.statements import insert, insert_new, parts_of
from registry.tables import LabelRow, LossRow, PredictionRow

__all__ = [
    "LabelItem",
    "LabelOutcome",
    "LabelStatus",
    "LabelledRow",
    "LossPoint",
    "adopt_orphans",
    "count_labelled",
    "labelled_rows",
    "labelled_rows_of",
    "loss_series",
    "record_labels",
    "record_losses",
    "revise_losses",
]

LabelStatus = Literal["accepted", "duplicate", "conflict", "revised", "unknown"]
_TRIES = 5  # of a look at a label that others revise meanwhile
ACCEPTED_ONLY = text("status = 'accepted'")


@dataclass(frozen=True)
class LabelItem:
    """A truth that somebody sends: any JSON value, and where it came from.

    `revise` says that it takes the place of the one that stands; without it they conflict.
    """

    prediction_id: str
    value: Any
    source: str = ""
    revise: bool = False


@dataclass(frozen=True)
class LabelOutcome:
    """What became of one label.

    Args:
        prediction_id: As it was sent.
        status: See the table above.
        prediction: What was predicted, with its shadows; None when unknown.
        value: The label as it was sent.
        at: When it came.
    """

    prediction_id: str
    status: LabelStatus
    prediction: PredictionRecord | None = None
    value: Any = None
    at: datetime | None = None


@dataclass(frozen=True)
class LabelledRow:
    """A row with its truth: what a retrain learns from.

    `loss` is of the version that answered, `source` who sent the label.
    """

    id: str
    at: datetime
    row: Any
    value: Any
    version: int
    loss: float | None
    source: str = ""


def record_labels(session: Session, items: Sequence[LabelItem], at: datetime) -> list[LabelOutcome]:
    """Take labels, whatever their order; one outcome for each, in the order of `items`."""
    return _judge(session, items, at)


def adopt_orphans(
    session: Session, span: tuple[str, str] | None = None, limit: int = 1000
) -> list[LabelOutcome]:
    """Join labels that came before their predictions, now that those are in the log.

    The first that came is accepted (or a duplicate, where a label came since); one that
    contradicts it is a conflict. None stays an orphan.

    Args:
        session: Open transaction.
        span: The least and the greatest id of what was just logged; None looks at every orphan.
        limit: Labels taken in one call, oldest first.
    """
    query = select(
        LabelRow.id, LabelRow.prediction_id, LabelRow.value, LabelRow.source, LabelRow.at
    ).where(LabelRow.status == "orphan")
    if span is not None:  # few labels, if any, have an id between these
        query = query.where(LabelRow.prediction_id.between(*span))
    outcomes: list[LabelOutcome] = []
    waiting = session.execute(query.order_by(LabelRow.at, LabelRow.id)).all()
    for start in range(0, len(waiting), limit):
        part = waiting[start : start + limit]
        there = find_predictions(session, {row.prediction_id for row in part}).keys()
        for key, prediction_id, value, source, at in part:
            if prediction_id in there and len(outcomes) < limit:
                outcomes += _judge(session, [LabelItem(prediction_id, value, source)], at, key)
    return outcomes


def labelled_rows(session: Session, model: str, since: datetime, limit: int) -> list[LabelledRow]:
    """The newest `limit` labelled rows predicted at or after `since`, oldest first."""
    query = (
        _labelled()
        .where(PredictionRow.model == model, PredictionRow.at >= since)
        .order_by(PredictionRow.at.desc(), PredictionRow.id.desc())
        .limit(limit)
    )
    return [LabelledRow(*row) for row in reversed(session.execute(query).all())]


def count_labelled(session: Session, model: str, since: datetime) -> int:
    """How many rows predicted at or after `since` have a label."""
    query = (
        select(func.count())
        .select_from(PredictionRow)
        .join(
            LabelRow,
            (LabelRow.prediction_id == PredictionRow.id) & (LabelRow.status == "accepted"),
        )
        .where(PredictionRow.model == model, PredictionRow.at >= since)
    )
    return session.scalar(query) or 0


def labels_since(
    session: Session, model: str, since: datetime
) -> list[tuple[str, str, float | None]]:
    """Labels of rows predicted at or after `since`: prediction, source and loss, oldest first."""
    later = revisions()
    query = (
        select(PredictionRow.id, LabelRow.source, known(later))
        .join(
            LabelRow,
            (LabelRow.prediction_id == PredictionRow.id) & (LabelRow.status == "accepted"),
        )
        .outerjoin(
            LossRow,
            (LossRow.prediction_id == PredictionRow.id)
            & (LossRow.version == PredictionRow.version),
        )
        .outerjoin(later, revised(later))
        .where(PredictionRow.model == model, PredictionRow.at >= since)
        .order_by(PredictionRow.at, PredictionRow.id)
    )
    return [(key, source, loss) for key, source, loss in session.execute(query)]


def labelled_rows_of(session: Session, ids: Collection[str]) -> list[LabelledRow]:
    """The labelled rows of these predictions, oldest first; those that are gone are left out."""
    found = [
        LabelledRow(*row)
        for part in parts_of(ids)
        for row in session.execute(_labelled().where(PredictionRow.id.in_(part)))
    ]
    return sorted(found, key=lambda row: (row.at, row.id))


def _labelled() -> Select[tuple[str, datetime, Any, Any, int, float, str]]:
    """Predictions with their accepted label, and the loss of the version that answered."""
    later = revisions()
    return (
        select(
            PredictionRow.id,
            PredictionRow.at,
            PredictionRow.row,
            LabelRow.value,
            PredictionRow.version,
            known(later),
            LabelRow.source,
        )
        .join(
            LabelRow,
            (LabelRow.prediction_id == PredictionRow.id) & (LabelRow.status == "accepted"),
        )
        .outerjoin(
            LossRow,
            (LossRow.prediction_id == PredictionRow.id)
            & (LossRow.version == PredictionRow.version),
        )
        .outerjoin(later, revised(later))
    )


def _judge(
    session: Session, items: Sequence[LabelItem], at: datetime, orphan: int | None = None
) -> list[LabelOutcome]:
    """The outcome of each item, kept as the table says.

    `orphan` is the key of the row that the one item is already kept in.
    """
    predictions = find_predictions(session, {storable(item.prediction_id) for item in items})
    standing = _accepted(session, predictions)
    first: dict[str, LabelItem] = {}
    for item in items:
        if item.prediction_id in predictions and item.prediction_id not in standing:
            first.setdefault(item.prediction_id, item)
    keep_rows(session, [predictions[prediction_id] for prediction_id in sorted(first)])
    if orphan is not None:
        session.execute(delete(LabelRow).where(LabelRow.id == orphan))
    won = _accept(session, first, predictions, at)
    # Who lost to another process between the look and the insert is judged by the winner.
    standing |= _accepted(session, first.keys() - won)
    standing |= {prediction_id: first[prediction_id].value for prediction_id in won}
    revising = {
        item.prediction_id for item in items if item.revise and item.prediction_id in predictions
    }
    for prediction_id in sorted(revising):  # the one order that everybody takes
        standing[prediction_id] = _held(session, prediction_id)

    outcomes = []
    kept: list[dict[str, Any]] = []
    for item in items:
        prediction = predictions.get(item.prediction_id)
        status: LabelStatus
        if prediction is None:
            status = "unknown"
            kept.append(_row(item, "", at, "orphan"))
        elif item.prediction_id in won:
            status = "accepted"  # its first item: the next ones are judged by it
            won.remove(item.prediction_id)
        elif _same(standing[item.prediction_id], item.value):
            status = "duplicate"
        elif item.revise:
            status = "revised"
            _supersede(session, _row(item, prediction.model, at, "accepted"))
            standing[item.prediction_id] = item.value
        else:
            status = "conflict"
            kept.append(_row(item, prediction.model, at, "conflict"))
        outcomes.append(LabelOutcome(item.prediction_id, status, prediction, item.value, at))
    _keep(session, kept)
    return outcomes


def _accept(
    session: Session,
    first: Mapping[str, LabelItem],
    predictions: Mapping[str, PredictionRecord],
    at: datetime,
) -> set[str]:
    """Insert as accepted; the ids whose label is now the standing one."""
    if not first:
        return set()
    rows = [
        _row(item, predictions[prediction_id].model, at, "accepted")
        # In one order for everybody, or two batches with the same ids could wait for each other.
        for prediction_id, item in sorted(first.items(), key=lambda pair: pair[0])
    ]
    statement = insert_new(session, LabelRow, LabelRow.prediction_id, where=ACCEPTED_ONLY)
    return set(session.scalars(statement.returning(LabelRow.prediction_id), rows))


def _held(session: Session, prediction_id: str) -> Any:  # noqa: ANN401 - any JSON
    """The value that stands, which nobody else revises before this transaction ends."""
    query = select(LabelRow.value).where(
        LabelRow.prediction_id == prediction_id, LabelRow.status == "accepted"
    )
    for _ in range(_TRIES):
        # Who was ahead leaves the row that was waited for superseded: then the next one is sought.
        found = session.execute(query.with_for_update()).first()
        if found is not None:
            return found.value
    raise Unavailable(
        f"The label of {prediction_id} is being revised by others.",
        remedy="Send the revision again.",
    )


def _supersede(session: Session, row: dict[str, Any]) -> None:
    """Put a label in the place of the one that stands, which stays as what was believed."""
    session.execute(
        update(LabelRow)
        .where(LabelRow.prediction_id == row["prediction_id"], LabelRow.status == "accepted")
        .values(status="superseded")
    )
    session.execute(insert(session, LabelRow), [row])


def _keep(session: Session, rows: list[dict[str, Any]]) -> None:
    """Insert conflicts and orphans, each once: a client that repeats itself adds nothing."""
    if not rows:
        return
    ids = {row["prediction_id"] for row in rows}
    present = {
        (prediction_id, status, to_json(value))
        for part in parts_of(ids)
        for prediction_id, status, value in session.execute(
            select(LabelRow.prediction_id, LabelRow.status, LabelRow.value).where(_among(part))
        )
    }
    new: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in rows:
        key = (row["prediction_id"], row["status"], to_json(row["value"]))
        if key not in present:
            new.setdefault(key, row)
    if new:
        session.execute(insert(session, LabelRow), list(new.values()))


def _accepted(session: Session, ids: Collection[str]) -> dict[str, Any]:
    query = select(LabelRow.prediction_id, LabelRow.value).where(LabelRow.status == "accepted")
    return {
        prediction_id: value
        for part in parts_of(ids)
        for prediction_id, value in session.execute(query.where(_among(part)))
    }


def _among(ids: Sequence[str]) -> ColumnElement[bool]:
    return LabelRow.prediction_id.in_(ids)


def _row(item: LabelItem, model: str, at: datetime, status: str) -> dict[str, Any]:
    return {
        "prediction_id": storable(item.prediction_id),
        "model": model,
        "value": item.value,
        "at": at,
        "source": storable(item.source),
        "status": status,
    }


def _same(one: object, other: object) -> bool:
    # 1, 1.0 and True are equal in Python, but true is another answer than 1 in JSON.
    return one == other and isinstance(one, bool) == isinstance(other, bool)
