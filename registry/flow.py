"""When predictions and labels came, and how many of those that were logged monitors counted."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from registry.input_counts import window_of
from registry.tables import BlockRow, InputCountRow, LabelRow, TrafficRow
from registry.traffic import hour_of

Span = tuple[datetime, datetime]

HOUR = timedelta(hours=1)
SLACK = timedelta(seconds=1)  # a row is logged and counted by two threads, moments apart


def last_answer(session: Session, model: str) -> datetime | None:
    """When the newest logged prediction of a model was answered, shadows aside."""
    newest = select(func.max(TrafficRow.hour)).where(TrafficRow.model == model).scalar_subquery()
    query = select(TrafficRow.last_at).where(TrafficRow.model == model, TrafficRow.hour == newest)
    return max(session.scalars(query), default=None)


def first_answer_after(session: Session, model: str, moment: datetime | None) -> datetime | None:
    """When the oldest logged prediction after a moment was answered; None: the oldest of all."""
    query = select(BlockRow.first_at).where(BlockRow.model == model)
    if moment is not None:
        query = query.where(BlockRow.first_at > moment)
    return session.scalar(query.order_by(BlockRow.first_at).limit(1))


def answer_spans(session: Session, model: str, since: datetime) -> list[Span]:
    """The first and the last answer of each arm in each hour since a moment."""
    query = select(TrafficRow.first_at, TrafficRow.last_at).where(
        TrafficRow.model == model, TrafficRow.hour >= hour_of(since)
    )
    return [(first, last) for first, last in session.execute(query)]


def last_label(session: Session, model: str) -> datetime | None:
    """When the newest label of a model came that says what its truth is."""
    return session.scalar(
        select(LabelRow.at).where(LabelRow.model == model).order_by(LabelRow.at.desc()).limit(1)
    )


def label_spans(session: Session, model: str, since: datetime) -> list[Span]:
    """The first and the last label of each hour in which some came, since a moment.

    Two look-ups in the index for each such hour, however many labels there are.
    """
    own = LabelRow.model == model
    spans: list[Span] = []
    start: datetime | None = since
    while start is not None:
        first = session.scalar(
            select(LabelRow.at).where(own, LabelRow.at >= start).order_by(LabelRow.at).limit(1)
        )
        if first is None:
            return spans
        start = first + HOUR
        last = session.scalar(
            select(LabelRow.at)
            .where(own, LabelRow.at >= first, LabelRow.at < start)
            .order_by(LabelRow.at.desc())
            .limit(1)
        )
        spans.append((first, last or first))
    return spans


def logged_and_counted(
    session: Session, model: str, edges: Sequence[datetime]
) -> list[tuple[int, int]]:
    """Rows that the champion answered and that monitors counted, between each two moments.

    Of the log, whole blocks that lie between the two; of the counts, `SLACK` more on either side.
    So the counts of monitors that work are never the smaller ones.
    """
    blocks = session.execute(
        select(BlockRow.first_at, BlockRow.last_at, BlockRow.rows).where(
            BlockRow.model == model,
            BlockRow.arm == "champion",
            BlockRow.first_at >= edges[0],
            BlockRow.first_at < edges[-1],
        )
    ).all()
    counts = session.execute(
        select(InputCountRow.window, InputCountRow.rows).where(
            InputCountRow.model == model, InputCountRow.window >= window_of(edges[0] - SLACK)
        )
    ).all()
    found = []
    for start, end in itertools.pairwise(edges):
        logged = sum(rows for first, last, rows in blocks if first >= start and last < end)
        low, high = window_of(start - SLACK), window_of(end + SLACK)
        found.append((logged, sum(rows for window, rows in counts if low <= window <= high)))
    return found
