"""How long the prediction log is kept, by age and by size, and what is kept beyond that.

Nobody forgets a row that is still needed: what a version with a role was trained on (its memory is
an artifact of its own, but `homeostat reproduce` reads the rows), what an open incident is about,
what is too young for its label to count, and what was labelled a moment ago. A row goes with its
labels, losses and shadows; a block goes once all of it may, and after its labelled rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Text, and_, cast, delete, exists, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from registry.incident_records import ASIDE, change_of, open_incidents
from registry.tables import (
    BlockRow,
    HeldLabelRow,
    LabelRow,
    LineageRow,
    LossRevisionRow,
    LossRow,
    PredictionRow,
    ReleaseRow,
    ShadowRow,
)

ROLE_KEPT = timedelta(days=30)  # after its last role, as long as its files are kept here
LABELLED_KEPT = timedelta(hours=1)  # for gateways that read what others took
SAMPLED = 1000  # newest and oldest rows, for the mean size
ROW_BYTES = 120  # of a row besides input, output and answer

_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime(9999, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, order=True)
class Span:
    """A stretch of prediction time: [start, end)."""

    start: datetime
    end: datetime


def spans_needed(
    session: Session, model: str, now: datetime, label_delay: timedelta = timedelta()
) -> list[Span]:
    """The stretches whose rows are needed, whatever their age.

    Args:
        session: Open transaction.
        model: The registered model's name.
        now: The present moment.
        label_delay: How old a prediction must be for its label to count.
    """
    needed = [Span(now - label_delay, _LAST)]
    needed += [
        Span(change_of(one), _LAST)
        for one in open_incidents(session, model)
        if one.kind not in ASIDE  # about a version's files, say: no rows are read for it
    ]
    since = now - ROLE_KEPT
    query = (
        select(LineageRow.record)
        .join(
            ReleaseRow,
            (ReleaseRow.model == LineageRow.model) & (ReleaseRow.version == LineageRow.version),
        )
        .where(
            LineageRow.model == model, or_(ReleaseRow.to_at.is_(None), ReleaseRow.to_at >= since)
        )
    )
    for record in session.scalars(query):
        data = record.get("data", {})
        if data.get("begins") and data.get("ends"):
            begins, ends = (datetime.fromisoformat(data[name]) for name in ("begins", "ends"))
            needed.append(Span(begins, ends + _TICK))
    return needed


def spans_free(before: datetime, needed: Sequence[Span]) -> list[Span]:
    """What is older than a moment and in none of the stretches that are needed, oldest first."""
    free, start = [], _FIRST
    for span in sorted(needed):
        if span.start > start:
            free.append(Span(start, min(span.start, before)))
        start = max(start, span.end)
        if start >= before:
            break
    if start < before:
        free.append(Span(start, before))
    return [span for span in free if span.start < span.end]


def oldest_within(session: Session, model: str, keep_bytes: int) -> datetime | None:
    """From when on rows are to be kept so that a model's log takes about so many bytes.

    What a row or a block takes is the mean of the newest and oldest ones; indexes, and what
    labelled predictions take beside their blocks, are not counted. None: all of them fit.
    """
    blocks = BlockRow.model == model
    each = _mean(session, func.length(BlockRow.content), blocks, BlockRow.first_at)
    count = session.scalar(select(func.count()).select_from(BlockRow).where(blocks)) or 0
    excess = count - int(keep_bytes / each) if each else 0
    if excess > 0:
        firsts = select(BlockRow.first_at).where(blocks).order_by(BlockRow.first_at)
        return session.scalar(firsts.offset(excess).limit(1)) or _LAST
    # Rows that are in no block are older than all blocks.
    mine = and_(PredictionRow.model == model, ~PredictionRow.packed)
    size = (
        func.length(cast(PredictionRow.row, Text))
        + func.length(PredictionRow.output)
        + func.length(cast(PredictionRow.answer, Text))
        + ROW_BYTES
    )
    row = _mean(session, size, mine, PredictionRow.at)
    if not row:
        return None
    rows = session.scalar(select(func.count()).select_from(PredictionRow).where(mine)) or 0
    excess = rows - int((keep_bytes - count * each) / row)
    if excess <= 0:
        return None
    query = select(PredictionRow.at).where(mine).order_by(PredictionRow.at).offset(excess).limit(1)
    return session.scalar(query) or _LAST


def forget_predictions(
    session: Session, model: str, spans: Sequence[Span], now: datetime, limit: int
) -> int:
    """Remove the oldest rows of some stretches with all that hangs on them; how many went.

    Rows whose labels came within `LABELLED_KEPT` stay until the next time.

    Args:
        session: Open transaction.
        model: The registered model's name.
        spans: As `spans_free` gives them.
        now: The present moment.
        limit: Predictions of this transaction, at most, but for those of one block more.
    """
    settling = exists().where(
        LossRow.prediction_id == PredictionRow.id, LossRow.labelled_at > now - LABELLED_KEPT
    )
    ids: list[str] = []
    for span in spans:
        query = (
            select(PredictionRow.id)
            .where(
                PredictionRow.model == model,
                PredictionRow.at >= span.start,
                PredictionRow.at < span.end,
                ~settling,
            )
            .order_by(PredictionRow.at)
            .limit(limit - len(ids))
        )
        ids += session.scalars(query)
        if len(ids) >= limit:
            break
    if ids:
        for table in (LabelRow, HeldLabelRow, LossRow, LossRevisionRow, ShadowRow):
            session.execute(delete(table).where(table.prediction_id.in_(ids)))
        session.execute(delete(PredictionRow).where(PredictionRow.id.in_(ids)))
    return len(ids) + _forget_blocks(session, model, spans, limit - len(ids))


def _forget_blocks(session: Session, model: str, spans: Sequence[Span], limit: int) -> int:
    """Remove blocks that lie in a stretch, oldest first, until `limit` predictions went."""
    labelled = exists().where(
        PredictionRow.model == BlockRow.model,
        PredictionRow.at >= BlockRow.first_at,
        PredictionRow.at <= BlockRow.last_at,
    )
    gone = 0
    for span in spans:
        while gone < limit:
            oldest = session.execute(
                select(BlockRow.id, BlockRow.rows)
                .where(
                    BlockRow.model == model,
                    BlockRow.first_at >= span.start,
                    BlockRow.first_at < span.end,
                    BlockRow.last_at < span.end,
                    ~labelled,
                )
                .order_by(BlockRow.first_at)
                .limit(1)
            ).one_or_none()
            if oldest is None:
                break
            session.execute(delete(BlockRow).where(BlockRow.id == oldest.id))
            gone += oldest.rows
    return gone


def _mean(
    session: Session,
    size: ColumnElement[int],
    mine: ColumnElement[bool],
    at: InstrumentedAttribute[datetime],
) -> float:
    """The mean size of the newest and the oldest; 0: there is none."""
    found: list[int] = []
    for order in (at.asc(), at.desc()):
        found += session.scalars(select(size).where(mine).order_by(order).limit(SAMPLED))
    return sum(found) / len(found) if found else 0.0
