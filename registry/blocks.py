"""Many answers in one row of the database: what a busy gateway's prediction log is made of.

A row for each prediction, with its indexes, costs ten times what the prediction costs. Here the
answers of one arm that one drain of the spool brings are one row, a block: their ids, inputs and
outputs as columns of bytes. A block is found by the ids it spans, which begin with their time
(UUIDv7), or by the moments it spans.

Shapes: n predictions, D numbers of a row, C outputs.
"""

from __future__ import annotations

import uuid
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from registry.json_text import from_json
from registry.statements import insert
from registry.tables import BlockRow

ID_BYTES = 16
ROWS_PER_BLOCK = 1024  # where a block of them ends: to read one prediction is to read its block
SPAN_MILLISECONDS = 60_000  # of the ids of one block, at most; so far is looked for an id
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SPAN = timedelta(milliseconds=2 * SPAN_MILLISECONDS)  # of a block's moments, amply


class Columns(msgspec.Struct, array_like=True):
    """Answers of one version in one arm to one batch; numbers are little-endian.

    Args:
        at: When they were given, in microseconds since 1970.
        ids: 16 bytes each.
        entities: Whom they are about: of all, of each, or nobody.
        columns: D, where `rows` is numbers; 0: `rows` is JSON, one a line.
        exact: Whether the numbers are float64: float32 would not have been the same.
        rows: The inputs.
        width: C.
        outputs: (n, C) float32.
        answers: What callers were told beside id and version, as JSON, one a line.
        shadows: (version, C, (n, C) float32) of those that answered unseen; NaN where one did not.
    """

    at: int
    ids: bytes
    entities: list[str]
    columns: int
    exact: bool
    rows: bytes
    width: int
    outputs: bytes
    answers: bytes
    shadows: list[tuple[int, int, bytes]]

    @property
    def count(self) -> int:
        """How many they are."""
        return len(self.ids) // ID_BYTES

    @property
    def moment(self) -> datetime:
        """When they were given."""
        return _EPOCH + timedelta(microseconds=self.at)

    def id_at(self, place: int) -> bytes:
        """The id of one."""
        return self.ids[place * ID_BYTES : (place + 1) * ID_BYTES]

    def numbers(self) -> NDArray[np.float32] | NDArray[np.float64]:
        """The inputs (n, D), where they are numbers."""
        return to_numbers(self.rows, self.columns, exact=self.exact)

    def values(self) -> list[object]:
        """The inputs as JSON carried them."""
        if self.columns:
            numbers: list[object] = self.numbers().tolist()
            return numbers
        return [from_json(line) for line in self.rows.split(b"\n")]


def to_numbers(
    rows: bytes, columns: int, *, exact: bool
) -> NDArray[np.float32] | NDArray[np.float64]:
    """Inputs (n, D) from the bytes that `Columns` keeps of them."""
    return np.frombuffer(rows, "<f8" if exact else "<f4").reshape(-1, columns)


class Arm(NamedTuple):
    """Who answered."""

    model: str
    generation: int
    version: int
    arm: str


@dataclass(slots=True)
class Block:
    """Answers of one arm, batch by batch."""

    arm: Arm
    batches: list[Columns] = field(default_factory=list)
    first: bytes = b"\xff" * ID_BYTES
    last: bytes = b""
    rows: int = 0

    def take(self, batch: Columns) -> bool:
        """Take a batch in; False: it does not fit."""
        first, last = _extremes(batch)
        if self.batches:
            first, last = min(first, self.first), max(last, self.last)
            span = _milliseconds(last) - _milliseconds(first)
            if self.rows >= ROWS_PER_BLOCK or span > SPAN_MILLISECONDS:
                return False
        self.first, self.last = first, last
        self.batches.append(batch)
        self.rows += batch.count
        return True


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Columns])


def to_blocks(batches: Iterable[tuple[Arm, Columns]]) -> list[Block]:
    """Batches as blocks, in their order."""
    blocks: list[Block] = []
    open_: dict[Arm, Block] = {}
    for arm, batch in batches:
        block = open_.get(arm)
        if block is None or not block.take(batch):
            block = open_[arm] = Block(arm)
            blocks.append(block)
            block.take(batch)
    return blocks


def insert_blocks(session: Session, blocks: Sequence[Block]) -> None:
    """Write blocks; a batch that is in the database already, by its ids, is left out."""
    rows: list[dict[str, object]] = []
    for block in blocks:
        present = _present(session, block)
        batches = [one for one in block.batches if one.id_at(0) not in present]
        rows += map(
            block_row, to_blocks((block.arm, batch) for batch in batches) if present else [block]
        )
    if rows:
        session.execute(insert(session, BlockRow), rows)


def find_in_blocks(
    session: Session, ids: Collection[str]
) -> Iterator[tuple[str, Arm, Columns, int]]:
    """Each of the ids that is in a block: who answered, with which batch, at which place of it."""
    wanted = {key: name for name in ids if (key := id_bytes(name)) is not None}
    keys = sorted(wanted)
    for block in that_may_hold(session, keys):
        for arm, batch in _read(session, block):
            for place in range(batch.count):
                name = wanted.get(batch.id_at(place))
                if name is not None:
                    yield name, arm, batch, place


def batches_within(
    session: Session, model: str, start: datetime, end: datetime
) -> Iterator[tuple[Arm, Columns]]:
    """The batches of [start, end), a block at a time."""
    keys = session.scalars(select(BlockRow.id).where(*overlapping(model, start, end))).all()
    for key in keys:
        for arm, batch in _read(session, key):
            if start <= batch.moment < end:
                yield arm, batch


def overlapping(model: str, start: datetime, end: datetime) -> tuple[ColumnElement[bool], ...]:
    """The blocks that hold answers of [start, end), and perhaps some that do not."""
    return (
        BlockRow.model == model,
        BlockRow.first_at >= start - _SPAN,
        BlockRow.first_at < end,
        BlockRow.last_at >= start,
    )


def batches_of(content: bytes) -> list[Columns]:
    """What a block's `content` holds."""
    return _decoder.decode(content)


def id_bytes(prediction_id: str) -> bytes | None:
    """An id as a block keeps it; None: no gateway gave it out."""
    try:
        found = uuid.UUID(prediction_id)
    except ValueError:
        return None
    return found.bytes if str(found) == prediction_id else None


def id_text(key: bytes) -> str:
    """An id as callers know it."""
    return str(uuid.UUID(bytes=key))


def _read(session: Session, block: int) -> Iterator[tuple[Arm, Columns]]:
    names = (BlockRow.model, BlockRow.generation, BlockRow.version, BlockRow.arm)
    query = select(*names, BlockRow.content).where(BlockRow.id == block)
    for row in session.execute(query):  # none, where retention took it a moment ago
        for batch in _decoder.decode(row.content):
            yield Arm(*row[:4]), batch


def that_may_hold(session: Session, keys: Sequence[bytes]) -> list[int]:
    """The blocks (`BlockRow.id`) in whose span one of the sorted keys lies."""
    found: list[int] = []
    start = 0
    while start < len(keys):
        stop = start + 1  # ids of about one time are looked for with one query
        while stop < len(keys) and _gap(keys[stop - 1], keys[stop]) <= SPAN_MILLISECONDS:
            stop += 1
        spans = session.execute(
            select(BlockRow.id, BlockRow.first_id, BlockRow.last_id)
            .where(
                BlockRow.first_id >= _before(keys[start]),
                BlockRow.first_id <= keys[stop - 1],
                BlockRow.last_id >= keys[start],
            )
            .order_by(BlockRow.first_id)
        )
        for block, first, last in spans:
            place = bisect_left(keys, bytes(first))
            if place < len(keys) and keys[place] <= bytes(last):
                found.append(block)
        start = stop
    return found


def _present(session: Session, block: Block) -> set[bytes]:
    """First ids of batches that are in the database, among those of the block's span."""
    overlapping = session.scalars(
        select(BlockRow.content).where(
            BlockRow.first_id >= _before(block.first),
            BlockRow.first_id <= block.last,
            BlockRow.last_id >= block.first,
            BlockRow.model == block.arm.model,
        )
    )
    return {batch.id_at(0) for content in overlapping for batch in _decoder.decode(content)}


def block_row(block: Block) -> dict[str, object]:
    """A block as its row of the database has it."""
    moments = [batch.at for batch in block.batches]
    return {
        **{name: getattr(block.arm, name) for name in ("model", "generation", "version", "arm")},
        "first_id": block.first,
        "last_id": block.last,
        "first_at": _EPOCH + min(moments) * _MICROSECOND,
        "last_at": _EPOCH + max(moments) * _MICROSECOND,
        "rows": block.rows,
        "content": _encoder.encode(block.batches),
    }


def _extremes(batch: Columns) -> tuple[bytes, bytes]:
    if len(batch.ids) == ID_BYTES:
        return batch.ids, batch.ids
    keys = [batch.id_at(place) for place in range(batch.count)]
    return min(keys), max(keys)


def _milliseconds(key: bytes) -> int:
    return int.from_bytes(key[:6])


def _gap(key: bytes, next_key: bytes) -> int:
    return _milliseconds(next_key) - _milliseconds(key)


def _before(key: bytes) -> bytes:
    """The least id that a block with this one may begin with."""
    return max(0, _milliseconds(key) - SPAN_MILLISECONDS).to_bytes(6) + bytes(ID_BYTES - 6)
