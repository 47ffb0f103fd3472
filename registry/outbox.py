"""The outbox: alerts that have to reach an address, at least once, in the order they arose.

An alert is written in the transaction that made it true, and delivered afterwards by whoever
holds the controller's lease. A crash between delivery and `delivered` repeats it: receivers
know it by its id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import exists, func, select, update
from sqlalchemy.orm import Session, aliased

from monitoring import Alert, masked
from registry.statements import insert_new
from registry.tables import IncidentRow, OutboxRow

LONGEST_WAIT = 30.0  # seconds between two attempts, at most


@dataclass(frozen=True)
class Delivery:
    """One alert on its way to one address; `attempts` have failed so far."""

    id: int
    incident_id: str | None
    url: str
    alert: Alert
    attempts: int


def enqueue(
    session: Session,
    urls: Mapping[str, datetime],
    alert: Alert,
    now: datetime,
    incident_id: str | None = None,
) -> None:
    """Put an alert out for each address; the same alert id and address only once.

    Args:
        session: Open transaction.
        urls: The addresses, and from when on each may be called.
        alert: What to say.
        now: The present moment.
        incident_id: What it is about.
    """
    rows = [
        {
            "incident_id": incident_id,
            "alert_id": alert.id,
            "url": url,
            "alert": _to_json(alert),
            "created_at": now,
            "next_at": moment,
            "attempts": 0,
            "delivered_at": None,
            "error": "",
        }
        for url, moment in urls.items()
    ]
    if rows:
        session.execute(insert_new(session, OutboxRow, OutboxRow.alert_id, OutboxRow.url), rows)


def due(session: Session, now: datetime, limit: int = 100) -> list[Delivery]:
    """What is to be tried now, oldest first.

    Of one incident and address only the oldest undelivered alert is given: a `resolved` never
    overtakes its `open`.
    """
    earlier = aliased(OutboxRow)
    waits = exists().where(
        earlier.incident_id == OutboxRow.incident_id,
        earlier.url == OutboxRow.url,
        earlier.delivered_at.is_(None),
        earlier.id < OutboxRow.id,
    )
    query = (
        select(
            OutboxRow.id, OutboxRow.incident_id, OutboxRow.url, OutboxRow.alert, OutboxRow.attempts
        )
        .where(OutboxRow.delivered_at.is_(None), OutboxRow.next_at <= now, ~waits)
        .order_by(OutboxRow.id)
        .limit(limit)
    )
    return [
        Delivery(key, incident_id, url, _from_json(alert), attempts)
        for key, incident_id, url, alert, attempts in session.execute(query)
    ]


def standing(session: Session, prefix: str) -> list[Delivery]:
    """The last word on each unresolved incident, for addresses that want to hear it again.

    Args:
        session: Open transaction.
        prefix: How such addresses begin.

    Returns:
        Of each incident and address the newest alert, where all have arrived.
    """
    later = aliased(OutboxRow)
    overtaken = exists().where(
        later.incident_id == OutboxRow.incident_id,
        later.url == OutboxRow.url,
        later.id > OutboxRow.id,
    )
    query = (
        select(OutboxRow.id, OutboxRow.incident_id, OutboxRow.url, OutboxRow.alert)
        .join(IncidentRow, IncidentRow.id == OutboxRow.incident_id)
        .where(
            IncidentRow.state != "resolved",
            OutboxRow.delivered_at.is_not(None),
            OutboxRow.url.startswith(prefix, autoescape=True),
            ~overtaken,
        )
        .order_by(OutboxRow.id)
    )
    return [
        Delivery(key, incident_id, url, _from_json(alert), 0)
        for key, incident_id, url, alert in session.execute(query)
    ]


def delivered(session: Session, delivery_id: int, now: datetime) -> None:
    """The address has taken it."""
    session.execute(
        update(OutboxRow).where(OutboxRow.id == delivery_id).values(delivered_at=now, error="")
    )


def pass_on(session: Session, one: Delivery, urls: Mapping[str, datetime], now: datetime) -> None:
    """Give an alert up for an address that is set no more, and put it out for those that are.

    Args:
        session: Open transaction.
        one: The delivery that is given up.
        urls: The addresses that are set, and from when on each may be called; one that has the
            alert already does not get it twice.
        now: The present moment.
    """
    row = session.get(OutboxRow, one.id)
    if row is None or row.delivered_at is not None:
        return
    row.delivered_at, row.error = now, "given up: the address is set no more"
    enqueue(session, urls, one.alert, now, one.incident_id)


def failed(session: Session, delivery_id: int, error: str, now: datetime) -> None:
    """The address did not take it: again after 1, 2, 4, ... and at most 30 seconds."""
    row = session.get(OutboxRow, delivery_id)
    if row is None or row.delivered_at is not None:
        return
    wait = min(LONGEST_WAIT, 2.0 ** min(row.attempts, 10))
    row.attempts += 1
    row.next_at = now + timedelta(seconds=wait)
    row.error = error
    session.flush()


def refused(session: Session) -> int:
    """How many alerts were tried and have not arrived."""
    query = select(func.count()).where(OutboxRow.delivered_at.is_(None), OutboxRow.attempts > 0)
    return session.scalar(query) or 0


def undelivered(session: Session) -> list[tuple[str, int, str]]:
    """What has not arrived: (address without its secrets, attempts, last error), oldest first."""
    query = (
        select(OutboxRow.url, OutboxRow.attempts, OutboxRow.error)
        .where(OutboxRow.delivered_at.is_(None))
        .order_by(OutboxRow.id)
    )
    return [(masked(url), attempts, error) for url, attempts, error in session.execute(query)]


def _to_json(alert: Alert) -> dict[str, Any]:
    return asdict(alert) | {"at": alert.at.isoformat()}


def _from_json(value: dict[str, Any]) -> Alert:
    return Alert(**value | {"at": datetime.fromisoformat(value["at"])})
