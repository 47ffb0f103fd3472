"""Counts of what came in and went out, by short windows of time, added over all gateways.

Each gateway brings what it counted in a window: how many rows fell into each bin of the version's
profile. Sums do not depend on who counted what, and a window is closed once every gateway has said
that it is past it: so the windows, their order and with it the evidence on inputs are the same for
one gateway and for many. What comes later than that is added by itself: it counts once, later.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from registry.statements import insert
from registry.tables import InputCountRow, InputNumberRow, InputPartRow

WINDOW_SECONDS = 0.1
KEPT_SECONDS = 600  # after they were counted, for gateways that are behind

Flat = NDArray[np.int64]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, eq=False)
class InputCounts:
    """What was counted of one version in one window.

    Args:
        model: The model's name.
        window: The number of the window since 1970, each of `WINDOW_SECONDS`.
        digest: Of the champion whose profile has the bins.
        generation: Of the routing, the newest of those that it answered under.
        rows: How many rows were counted.
        counts: (C * B,) rows in each bin, column after column.
        number: Its place in the order of the model's evidence; 0: it has none yet.
    """

    model: str
    window: int
    digest: str
    generation: int
    rows: int
    counts: Flat
    number: int = 0

    @property
    def at(self) -> datetime:
        """When the window began."""
        return _EPOCH + timedelta(seconds=self.window * WINDOW_SECONDS)


def window_of(moment: datetime) -> int:
    """The window that a moment is in."""
    return (moment - _EPOCH) // timedelta(seconds=WINDOW_SECONDS)


def add_parts(session: Session, parts: Sequence[InputCounts]) -> None:
    """Keep what one gateway counted, until `merge_parts` adds it up."""
    rows = [
        {
            "model": one.model,
            "window": one.window,
            "digest": one.digest,
            "generation": one.generation,
            "rows": one.rows,
            "counts": _pack(one.counts),
        }
        for one in parts
    ]
    if rows:
        session.execute(insert(session, InputPartRow), rows)


def has_parts(session: Session, model: str, before: int | None) -> bool:
    """Whether `merge_parts` has something to do."""
    query = select(InputPartRow.id).where(*_parts_before(model, before)).limit(1)
    return session.scalar(query) is not None


def merge_parts(session: Session, model: str, before: int | None) -> int:
    """Add up what all gateways counted in the windows before one, under the next numbers.

    Whoever does so next waits until this transaction has ended, so each part is added once and
    numbers show in their order. Read first how far the gateways are: what they brought until then
    is seen here.

    Args:
        session: Open transaction.
        model: The registered model's name.
        before: The first window that is still open; None: every one is closed.

    Returns:
        How many counts there are more.
    """
    last = _lock_number(session, model)
    found = session.execute(
        delete(InputPartRow)
        .where(*_parts_before(model, before))
        .returning(
            InputPartRow.window,
            InputPartRow.digest,
            InputPartRow.generation,
            InputPartRow.rows,
            InputPartRow.counts,
        )
    ).all()
    # Counts of another release of this code may have other bins: they do not add up.
    parts = [
        (window, digest, given, rows, _unpack(raw)) for window, digest, given, rows, raw in found
    ]
    parts.sort(key=lambda part: (part[0], part[1], len(part[4])))
    rows = []
    grouped = itertools.groupby(parts, key=lambda part: (part[0], part[1], len(part[4])))
    for number, ((window, digest, _), group) in enumerate(grouped, last + 1):
        own = list(group)
        rows.append(
            {
                "model": model,
                "number": number,
                "window": window,
                "digest": digest,
                "generation": max(part[2] for part in own),
                "rows": sum(part[3] for part in own),
                "counts": _pack(np.sum([part[4] for part in own], axis=0)),
            }
        )
    if rows:
        session.execute(insert(session, InputCountRow), rows)
        session.execute(
            insert(session, InputNumberRow)
            .values(model=model, number=last + len(rows))
            .on_conflict_do_update(
                index_elements=[InputNumberRow.model], set_={"number": last + len(rows)}
            )
        )
    return len(rows)


def newest_counts(session: Session, model: str) -> int:
    """The number of a model's newest counts; 0 before the first."""
    query = select(InputNumberRow.number).where(InputNumberRow.model == model)
    return session.scalar(query) or 0


def oldest_counts(session: Session, model: str) -> int:
    """The number of the oldest counts that are kept, or that come next."""
    query = select(func.min(InputCountRow.number)).where(InputCountRow.model == model)
    return session.scalar(query) or newest_counts(session, model) + 1


def input_counts(session: Session, model: str, after: int, limit: int) -> list[InputCounts]:
    """Counts with larger numbers, in their order."""
    query = (
        select(
            InputCountRow.window,
            InputCountRow.digest,
            InputCountRow.generation,
            InputCountRow.rows,
            InputCountRow.counts,
            InputCountRow.number,
        )
        .where(InputCountRow.model == model, InputCountRow.number > after)
        .order_by(InputCountRow.number)
        .limit(limit)
    )
    return [
        InputCounts(model, window, digest, generation, rows, _unpack(counts), number)
        for window, digest, generation, rows, counts, number in session.execute(query)
    ]


def seen_counts(session: Session, model: str, until: int) -> list[InputCounts]:
    """Counts up to a number that are still kept, the last `KEPT_SECONDS` of them at most."""
    most = int(KEPT_SECONDS / WINDOW_SECONDS)
    found = input_counts(session, model, max(until - most, 0), most)
    return [one for one in found if one.number <= until]


def forget_counts(session: Session, model: str, seen: int, now: datetime) -> None:
    """Remove counts up to a number, which a saved detector has seen, once they are old."""
    old = window_of(now - timedelta(seconds=KEPT_SECONDS))
    session.execute(
        delete(InputCountRow).where(
            InputCountRow.model == model, InputCountRow.number <= seen, InputCountRow.window < old
        )
    )


def _lock_number(session: Session, model: str) -> int:
    """The newest number of a model, held until this transaction ends."""
    statement = insert(session, InputNumberRow).values(model=model, number=0)
    number = session.scalar(
        statement.on_conflict_do_update(
            index_elements=[InputNumberRow.model], set_={"number": InputNumberRow.number}
        ).returning(InputNumberRow.number)
    )
    return number or 0


def _parts_before(model: str, before: int | None) -> tuple[ColumnElement[bool], ...]:
    own = InputPartRow.model == model
    return (own,) if before is None else (own, InputPartRow.window < before)


def _pack(counts: Flat) -> bytes:
    return zlib.compress(counts.astype("<u4").tobytes(), 1)


def _unpack(raw: bytes) -> Flat:
    return np.frombuffer(zlib.decompress(raw), "<u4").astype(np.int64)
