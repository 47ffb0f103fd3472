"""What really answered, by the prediction log: the first and the last answer of each arm.

It is counted by the hour in the transaction that logs the answers, so it is exact as soon as they
are in the log, and a question about one moment reads the rows of one hour.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Select, case, select
from sqlalchemy.orm import Session

from registry.statements import insert
from registry.tables import TrafficRow

HOUR = 3600  # seconds

Key = tuple[str, int, int, int, str]


class Stamp(NamedTuple):
    """That an arm answered at a moment."""

    model: str
    at: datetime
    generation: int
    version: int
    arm: str


def hour_of(moment: datetime) -> int:
    """The hour of a moment, counted from 1970."""
    return int(moment.timestamp() // HOUR)


def count_traffic(session: Session, answers: Iterable[Stamp]) -> None:
    """Widen the first and last answer of every arm by those of a batch; again changes nothing."""
    spans: dict[Key, tuple[datetime, datetime]] = {}
    for one in answers:
        key = (one.model, hour_of(one.at), one.generation, one.version, one.arm)
        first, last = spans.get(key, (one.at, one.at))
        spans[key] = (min(first, one.at), max(last, one.at))
    if not spans:
        return
    names = ("model", "hour", "generation", "version", "arm", "first_at", "last_at")
    statement = insert(session, TrafficRow)
    new, old = statement.excluded, TrafficRow
    statement = statement.on_conflict_do_update(
        index_elements=list(names[:5]),
        set_={
            "first_at": case((new.first_at < old.first_at, new.first_at), else_=old.first_at),
            "last_at": case((new.last_at > old.last_at, new.last_at), else_=old.last_at),
        },
    )
    # In one order, so that two gateways never wait for one another.
    rows = [dict(zip(names, (*key, *spans[key]), strict=True)) for key in sorted(spans)]
    session.connection().execute(statement, rows)


def generations_at(model: str, moment: datetime) -> Select[int]:
    """The query for the generations whose answers surround a moment."""
    return select(TrafficRow.generation).where(
        TrafficRow.model == model,
        TrafficRow.hour == hour_of(moment),
        TrafficRow.first_at <= moment,
        TrafficRow.last_at >= moment,
    )
