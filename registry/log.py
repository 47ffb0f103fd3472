"""The prediction log: every answer, findable by its id, written in batches.

Shapes: C outputs of a row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from registry.bulk import insert_new_rows
from registry.json_text import storable
from registry.statements import columns_of, parts_of
from registry.tables import PredictionRow, ShadowRow
from registry.traffic import count_traffic

_COLUMNS = (
    *("id", "model", "version", "generation", "arm", "entity", "at"),
    *("row", "output", "columns", "answer"),
)


@dataclass(frozen=True)
class PredictionRecord:
    """One answered row.

    Args:
        id: UUIDv7, as it was given to the caller.
        model: The registered model's name.
        version: Which version answered.
        generation: Of the routing that chose it.
        arm: The role that answered: `champion` or `challenger`.
        entity: What the caller is sticky by; may be empty.
        at: When it was answered.
        row: The input as JSON carried it.
        output: (C,) float32, the raw output of the version.
        answer: What the caller was given, as JSON.
        shadows: (version, (C,) float32) of the versions that answered unseen.
    """

    id: str
    model: str
    version: int
    generation: int
    arm: str
    entity: str
    at: datetime
    row: Any
    output: NDArray[np.float32]
    answer: dict[str, Any]
    shadows: tuple[tuple[int, NDArray[np.float32]], ...] = ()


def log_predictions(session: Session, records: Sequence[PredictionRecord]) -> None:
    """Write a batch; a record whose id is already there changes nothing.

    So a spool that is replayed after a crash adds nothing twice.
    """
    insert_new_rows(
        session,
        PredictionRow,
        _COLUMNS,
        [
            (
                record.id,
                record.model,
                record.version,
                record.generation,
                record.arm,
                storable(record.entity),
                record.at,
                record.row,
                _pack(record.output),
                len(record.output),
                record.answer,
            )
            for record in records
        ],
    )
    insert_new_rows(
        session,
        ShadowRow,
        ("prediction_id", "version", "output"),
        [
            (record.id, version, _pack(output))
            for record in records
            for version, output in record.shadows
        ],
    )
    count_traffic(session, records)


def count_predictions(session: Session, model: str, version: int | None = None) -> int:
    """How many predictions of a model (of one version) are in the log."""
    query = select(func.count()).select_from(PredictionRow).where(PredictionRow.model == model)
    if version is not None:
        query = query.where(PredictionRow.version == version)
    return session.scalar(query) or 0


def find_prediction(session: Session, prediction_id: str) -> PredictionRecord | None:
    """The prediction of that id with its shadows, or None where there is none (yet)."""
    return find_predictions(session, [prediction_id]).get(prediction_id)


def predictions_elsewhere(
    session: Session, ids: Collection[str], models: Collection[str]
) -> set[str]:
    """Those of the ids that are predictions of other models than these."""
    found: set[str] = set()
    for part in parts_of(ids):
        query = select(PredictionRow.id).where(
            PredictionRow.id.in_(part), PredictionRow.model.not_in(models)
        )
        found.update(session.scalars(query))
    return found


def find_predictions(session: Session, ids: Collection[str]) -> dict[str, PredictionRecord]:
    """The predictions of those ids that are in the log, with their shadows."""
    found: dict[str, PredictionRecord] = {}
    for part in parts_of(ids):
        shadows: dict[str, list[tuple[int, NDArray[np.float32]]]] = {}
        query = select(ShadowRow.prediction_id, ShadowRow.version, ShadowRow.output)
        for prediction_id, version, output in session.execute(
            query.where(ShadowRow.prediction_id.in_(part)).order_by(ShadowRow.version)
        ):
            shadows.setdefault(prediction_id, []).append((version, _unpack(output)))
        rows = session.execute(
            columns_of(PredictionRow).where(PredictionRow.id.in_(part))
        ).mappings()
        found.update((row["id"], _record(row, shadows.get(row["id"], ()))) for row in rows)
    return found


def _record(
    row: Mapping[Any, Any], shadows: Iterable[tuple[int, NDArray[np.float32]]]
) -> PredictionRecord:
    return PredictionRecord(
        id=row["id"],
        model=row["model"],
        version=row["version"],
        generation=row["generation"],
        arm=row["arm"],
        entity=row["entity"],
        at=row["at"],
        row=row["row"],
        output=_unpack(row["output"]),
        answer=row["answer"],
        shadows=tuple(shadows),
    )


def _pack(output: NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(output, dtype="<f4").tobytes()


def _unpack(output: bytes) -> NDArray[np.float32]:
    return np.frombuffer(output, dtype="<f4").astype(np.float32, copy=False)
