"""Rows of the prediction log as a closer look needs them: all of a window, or a sample of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.blocks import batches_within
from registry.log import PredictionRecord, find_predictions, unpacked
from registry.statements import parts_of
from registry.tables import PredictionRow

_SEED = 0


@dataclass(frozen=True)
class Sample:
    """Predictions in the order of time, and how many there are in all."""

    rows: tuple[PredictionRecord, ...]
    total: int

    @property
    def whole(self) -> bool:
        """Whether it is all of them."""
        return len(self.rows) == self.total


def sample_within(
    session: Session,
    model: str,
    start: datetime,
    end: datetime,
    limit: int,
    version: int | None = None,
) -> Sample:
    """The answers of [start, end), or `limit` of them drawn at random, each as likely.

    Each answer draws a number; the smallest stay. So memory is that of two samples and of one
    block, however long the window, and the same rows come out each time.

    Args:
        session: Open transaction.
        model: The registered model's name.
        start: The first moment.
        end: The first moment that is no longer taken.
        limit: Rows that are enough.
        version: Only answers of this version.
    """
    rng = np.random.default_rng(_SEED)
    found: list[_Drawn] = []
    total = 0
    bound = 1.0  # what is drawn above it is not among the smallest
    for batch in _batches(session, model, start, end, version):
        draws = rng.random(batch.count)
        total += batch.count
        places = np.flatnonzero(draws < bound)
        found += zip(draws[places].tolist(), batch.rows(places.tolist()), strict=True)
        if len(found) > 2 * limit:
            found = _smallest(found, limit)
            bound = found[-1][0]
    rows = [record for _, record in _smallest(found, limit)]
    return Sample(tuple(sorted(rows, key=lambda record: (record.at, record.id))), total)


_Drawn = tuple[float, PredictionRecord]


@dataclass(frozen=True)
class _Batch:
    """Some answers of the log, unpacked only where they are wanted."""

    count: int
    rows: Callable[[list[int]], list[PredictionRecord]]


def _smallest(found: list[_Drawn], limit: int) -> list[_Drawn]:
    return sorted(found, key=lambda drawn: drawn[0])[:limit]


def _batches(
    session: Session, model: str, start: datetime, end: datetime, version: int | None
) -> Iterator[_Batch]:
    query = select(PredictionRow.id).where(
        PredictionRow.model == model,
        ~PredictionRow.packed,
        PredictionRow.at >= start,
        PredictionRow.at < end,
    )
    if version is not None:
        query = query.where(PredictionRow.version == version)
    for part in parts_of(session.scalars(query.order_by(PredictionRow.id)).all()):
        yield _Batch(len(part), partial(_singly, session, part))
    for arm, batch in batches_within(session, model, start, end):
        if version is None or arm.version == version:
            yield _Batch(batch.count, partial(unpacked, arm, batch))


def _singly(session: Session, ids: Sequence[str], places: list[int]) -> list[PredictionRecord]:
    found = find_predictions(session, [ids[place] for place in places])
    return [found[ids[place]] for place in places]
