"""The prediction log: every answer, findable by its id, written in batches.

Gateways log blocks (`registry.blocks`). A prediction that a label names is kept as a row of its
own besides, so that labels, losses and what a retrain learns from are joined by the database.

Shapes: C outputs of a row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from registry.blocks import (
    Arm,
    Block,
    Columns,
    batches_of,
    batches_within,
    find_in_blocks,
    id_text,
    insert_blocks,
)
from registry.bulk import insert_new_rows
from registry.json_text import from_json, storable
from registry.statements import columns_of, parts_of
from registry.tables import BlockRow, PredictionRow, ShadowRow
from registry.traffic import HOUR, Stamp, count_traffic

_COLUMNS = (
    *("id", "model", "version", "generation", "arm", "entity", "at"),
    *("row", "output", "columns", "answer", "packed"),
)


@dataclass(frozen=True)
class PredictionRecord:
    """One answered row.

    Args:
        id: UUIDv7, as it was given to the caller.
        model: The registered model's name.
        version: Which version answered.
        generation: Of the routing that chose it.
        arm: The role that answered: `champion` or `challenger`; `pinned` where it was chosen.
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


def log_blocks(session: Session, blocks: Sequence[Block]) -> None:
    """Write what gateways answered; a batch that is already there changes nothing.

    So a spool that is replayed after a crash adds nothing twice.
    """
    insert_blocks(session, blocks)
    count_traffic(session, list(_stamps(blocks)))


def _stamps(blocks: Sequence[Block]) -> Iterator[Stamp]:
    """The first and the last answer of each block in each hour: the others lie between."""
    for block in blocks:
        hours: defaultdict[int, list[Columns]] = defaultdict(list)
        for batch in block.batches:
            hours[batch.at // (HOUR * 10**6)].append(batch)
        arm, moment = block.arm, attrgetter("at")
        for batches in hours.values():
            for batch in (min(batches, key=moment), max(batches, key=moment)):
                yield Stamp(arm.model, batch.moment, arm.generation, arm.version, arm.arm)


def log_predictions(session: Session, records: Sequence[PredictionRecord]) -> None:
    """Write predictions, a row each; a record whose id is already there changes nothing."""
    _insert(session, records, packed=False)
    count_traffic(session, [Stamp(r.model, r.at, r.generation, r.version, r.arm) for r in records])


def keep_rows(session: Session, records: Sequence[PredictionRecord]) -> None:
    """Keep predictions that are in blocks as rows besides; those that are rows stay as they are."""
    _insert(session, records, packed=True)


def _insert(session: Session, records: Sequence[PredictionRecord], *, packed: bool) -> None:
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
                packed,
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


def count_predictions(session: Session, model: str, version: int | None = None) -> int:
    """How many predictions of a model (of one version) are in the log."""
    singly = select(func.count()).where(PredictionRow.model == model, ~PredictionRow.packed)
    packed = select(func.sum(BlockRow.rows)).where(BlockRow.model == model)
    if version is not None:
        singly = singly.where(PredictionRow.version == version)
        packed = packed.where(BlockRow.version == version)
    return (session.scalar(singly) or 0) + int(session.scalar(packed) or 0)


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
    found.update(
        name for name, arm, _, _ in find_in_blocks(session, ids) if arm.model not in models
    )
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
    packed = find_in_blocks(session, [name for name in ids if name not in found])
    found.update((name, _unpacked(name, arm, batch, at)) for name, arm, batch, at in packed)
    return found


def predictions_within(
    session: Session, model: str, start: datetime, end: datetime
) -> Iterator[PredictionRecord]:
    """All predictions of [start, end), a block or a few thousand rows at a time, in no order."""
    query = (
        select(PredictionRow.id)
        .where(PredictionRow.model == model, ~PredictionRow.packed)
        .where(PredictionRow.at >= start, PredictionRow.at < end)
    )
    for part in parts_of(session.scalars(query).all()):
        yield from find_predictions(session, part).values()
    for arm, batch in batches_within(session, model, start, end):
        yield from unpacked(arm, batch)


def unpack_blocks(session: Session) -> None:
    """Keep every prediction of every block as a row of its own."""
    names = (BlockRow.model, BlockRow.generation, BlockRow.version, BlockRow.arm)
    keys = session.scalars(select(BlockRow.id).order_by(BlockRow.id)).all()
    for key in keys:
        found = session.execute(select(*names, BlockRow.content).where(BlockRow.id == key)).one()
        for batch in batches_of(found.content):
            keep_rows(session, unpacked(Arm(*found[:4]), batch))


def unpacked(
    arm: Arm, batch: Columns, places: Iterable[int] | None = None
) -> list[PredictionRecord]:
    """The predictions of a batch, one by one: those at some of its places, or all."""
    wanted = range(batch.count) if places is None else places
    return [_unpacked(id_text(batch.id_at(place)), arm, batch, place) for place in wanted]


def _unpacked(name: str, arm: Arm, batch: Columns, place: int) -> PredictionRecord:
    shadows = [(version, _line(outputs, width, place)) for version, width, outputs in batch.shadows]
    numbers = batch.numbers()[place].tolist() if batch.columns else None
    entities = batch.entities
    return PredictionRecord(
        id=name,
        model=arm.model,
        version=arm.version,
        generation=arm.generation,
        arm=arm.arm,
        entity=entities[place if len(entities) > 1 else 0] if entities else "",
        at=batch.moment,
        row=numbers if batch.columns else from_json(batch.rows.split(b"\n")[place]),
        output=_line(batch.outputs, batch.width, place),
        answer=from_json(batch.answers.split(b"\n")[place]),
        shadows=tuple(
            (version, output) for version, output in shadows if not np.isnan(output).all()
        ),
    )


def _line(outputs: bytes, width: int, place: int) -> NDArray[np.float32]:
    return _unpack(outputs[4 * width * place : 4 * width * (place + 1)])


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
