"""Taking single predictions out of blocks: the block is written anew without them.

Shapes: n predictions of a batch, D numbers of a row, C outputs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from registry.blocks import (
    Arm,
    Block,
    Columns,
    batches_of,
    block_row,
    id_bytes,
    that_may_hold,
)
from registry.tables import BlockRow


def remove_from_blocks(session: Session, ids: Collection[str]) -> int:
    """Take predictions out of the blocks that hold them; how many there were."""
    wanted = {key for name in ids if (key := id_bytes(name)) is not None}
    gone = 0
    for block in that_may_hold(session, sorted(wanted)):
        gone += _remove(session, block, wanted)
    return gone


def cut(batch: Columns, places: Sequence[int]) -> Columns:
    """A batch of only the predictions at some of its places (at least one)."""
    kept = list(places)
    many = len(batch.entities) > 1
    return Columns(
        at=batch.at,
        ids=b"".join(map(batch.id_at, kept)),
        entities=[batch.entities[place] for place in kept] if many else batch.entities,
        columns=batch.columns,
        exact=batch.exact,
        rows=batch.numbers()[kept].tobytes() if batch.columns else _lines(batch.rows, kept),
        width=batch.width,
        outputs=_outputs(batch.outputs, batch.width, kept),
        answers=_lines(batch.answers, kept),
        shadows=[
            (version, width, _outputs(outputs, width, kept))
            for version, width, outputs in batch.shadows
        ],
    )


def _remove(session: Session, block: int, wanted: set[bytes]) -> int:
    names = (BlockRow.model, BlockRow.generation, BlockRow.version, BlockRow.arm)
    query = select(*names, BlockRow.content).where(BlockRow.id == block).with_for_update()
    found = session.execute(query).one_or_none()
    if found is None:  # retention took it a moment ago
        return 0
    left, gone = Block(Arm(*found[:4])), 0
    for batch in batches_of(found.content):
        stays = [place for place in range(batch.count) if batch.id_at(place) not in wanted]
        gone += batch.count - len(stays)
        if stays:
            left.take(batch if len(stays) == batch.count else cut(batch, stays))
    if gone and left.batches:
        session.execute(update(BlockRow).where(BlockRow.id == block), block_row(left))
    elif gone:
        session.execute(delete(BlockRow).where(BlockRow.id == block))
    return gone


def _lines(text: bytes, places: Sequence[int]) -> bytes:
    lines = text.split(b"\n")
    return b"\n".join(lines[place] for place in places)


def _outputs(outputs: bytes, width: int, places: Sequence[int]) -> bytes:
    return np.frombuffer(outputs, "<f4").reshape(-1, width)[list(places)].tobytes()
