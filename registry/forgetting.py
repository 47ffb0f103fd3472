"""A subject's rows in the lifecycle database: found, removed with all that hangs on them, sought.

The log is read whole, a block at a time: fields of rows have no index, and nothing is to be missed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, text
from sqlalchemy.orm import Session

from homeostat.errors import InputError
from registry.block_edits import remove_from_blocks
from registry.blocks import Columns, batches_of, id_bytes, id_text
from registry.columns import Table
from registry.log import predictions_elsewhere
from registry.statements import parts_of
from registry.subjects import Subject
from registry.tables import (
    BlockRow,
    HeldLabelRow,
    LabelRow,
    LossRevisionRow,
    LossRow,
    PredictionRow,
    ShadowRow,
)

Named = Callable[[str, str, object], bool]  # (prediction id, entity, row) -> whether it is meant
PREDICTIONS = "predictions"
HANGING: Mapping[str, type[Any]] = {
    "labels": LabelRow,
    "held labels": HeldLabelRow,
    "losses": LossRow,
    "revised losses": LossRevisionRow,
    "shadows": ShadowRow,
}
_ROWS_AT_ONCE = 2000


def find_rows(session: Session, model: str, named: Named) -> dict[str, Any]:
    """The logged rows of a model that are meant, by prediction id."""
    query = select(PredictionRow.id, PredictionRow.entity, PredictionRow.row).where(
        PredictionRow.model == model
    )
    singly = session.execute(query.execution_options(yield_per=_ROWS_AT_ONCE))
    found = {key: row for key, entity, row in singly if named(key, entity, row)}
    for batch in _batches(session, model):
        found |= {key: row for key, entity, row in answers_of(batch) if named(key, entity, row)}
    return found


def answers_of(batch: Columns) -> Iterator[tuple[str, str, object]]:
    """The id, the entity and the row of each answer of a batch."""
    entities = batch.entities or [""]
    for place, row in enumerate(batch.values()):
        entity = entities[place if len(entities) > 1 else 0]
        yield id_text(batch.id_at(place)), entity, row


def ids_of(session: Session, model: str, subject: Subject, rows: Mapping[str, Any]) -> set[str]:
    """The predictions that are to go: those found, and those named that are not in the log.

    Raises:
        InputError: one that was named is another model's.
    """
    if others := predictions_elsewhere(session, subject.ids, {model}):
        raise InputError(
            f"{min(others)} is a prediction of another model than '{model}'.",
            remedy="Name the model whose prediction it is.",
        )
    return {*rows, *subject.ids}


def remove_rows(session: Session, model: str, ids: Collection[str]) -> dict[str, int]:
    """Remove predictions with their labels, losses and shadows; how many of each went.

    On SQLite the freed pages are overwritten with zeros.
    """
    if session.get_bind().dialect.name == "sqlite":
        session.execute(text("PRAGMA secure_delete = ON"))
    gone = {PREDICTIONS: 0} | dict.fromkeys(HANGING, 0)
    for part in parts_of(ids):
        gone[PREDICTIONS] += len(_present(session, model, part))
        for name, table in HANGING.items():
            gone[name] += _delete(session, table, table.prediction_id.in_(part))
        _delete(session, PredictionRow, PredictionRow.id.in_(part))
        remove_from_blocks(session, part)
    return gone


def count_rows(session: Session, model: str, ids: Collection[str]) -> dict[str, int]:
    """What the database holds of these predictions."""
    left = {PREDICTIONS: 0} | dict.fromkeys(HANGING, 0)
    for part in parts_of(ids):
        left[PREDICTIONS] += len(_present(session, model, part))
        for name, table in HANGING.items():
            query = select(func.count()).select_from(table).where(table.prediction_id.in_(part))
            left[name] += session.scalar(query) or 0
    return left


def _present(session: Session, model: str, ids: Collection[str]) -> set[str]:
    """Those of the ids that are in the log, as rows or in blocks, read from every block."""
    found = set(session.scalars(select(PredictionRow.id).where(PredictionRow.id.in_(ids))))
    wanted = {key for name in ids if (key := id_bytes(name)) is not None}
    for batch in _batches(session, model):
        keys = map(batch.id_at, range(batch.count))
        found.update(id_text(key) for key in keys if key in wanted)
    return found


def _batches(session: Session, model: str) -> Iterator[Columns]:
    blocks = select(BlockRow.id).where(BlockRow.model == model).order_by(BlockRow.id)
    for block in session.scalars(blocks).all():
        content = session.scalar(select(BlockRow.content).where(BlockRow.id == block))
        yield from batches_of(content) if content is not None else ()


def _delete(session: Session, table: type[Table], condition: ColumnElement[bool]) -> int:
    return int(session.connection().execute(delete(table).where(condition)).rowcount)
