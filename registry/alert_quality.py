"""What the lifecycle database knows of how good alerts were."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monitoring.quality import Told, worth_of
from registry.incident_alerts import ACKNOWLEDGED, tell
from registry.incident_records import Incident, read_incident
from registry.incidents import unknown_incident
from registry.tables import IncidentEventRow, IncidentRow, SignalRow

JUDGED = "judged"  # in an incident's details: what a person said that it was worth


def judge(
    session: Session,
    incident_id: str,
    worth: Literal["real", "false alarm"],
    actor: str,
    at: datetime,
) -> Incident:
    """Keep what a person says that an incident was worth; the last word counts.

    Raises:
        InputError: there is no such incident.
    """
    row = session.get(IncidentRow, incident_id, with_for_update=True, populate_existing=True)
    if row is None:
        raise unknown_incident(incident_id)
    if row.details.get(JUDGED) != worth:
        row.details = row.details | {JUDGED: worth}
        tell(session, row, at, f"{actor} says: {worth}.")
    return read_incident(session, incident_id)


def alerts_told(
    session: Session, since: datetime, until: datetime, model: str | None = None
) -> list[Told]:
    """What was told of incidents that opened in a stretch of time, by detector.

    Args:
        session: Open transaction.
        since: From then on.
        until: Until then, itself left out.
        model: Only of this model.
    """
    firsts = select(
        SignalRow.incident_id, SignalRow.detector, func.min(SignalRow.id).label("first")
    ).group_by(SignalRow.incident_id, SignalRow.detector)
    first = firsts.subquery()
    query = (
        select(IncidentRow, SignalRow)
        .join(first, first.c.incident_id == IncidentRow.id)
        .join(SignalRow, SignalRow.id == first.c.first)
        .where(IncidentRow.opened_at >= since, IncidentRow.opened_at < until)
        .order_by(IncidentRow.opened_at, SignalRow.id)
    )
    if model is not None:
        query = query.where(IncidentRow.model == model)
    found = session.execute(query).all()
    taken = _acknowledged(session, since)
    return [_told(row, signal, taken.get(row.id)) for row, signal in found]


def _acknowledged(session: Session, since: datetime) -> dict[str, datetime]:
    """When incidents were taken on, by id."""
    query = (
        select(IncidentEventRow.incident_id, func.min(IncidentEventRow.at))
        .where(IncidentEventRow.at >= since, IncidentEventRow.text.startswith(ACKNOWLEDGED))
        .group_by(IncidentEventRow.incident_id)
    )
    return dict(session.execute(query).tuples().all())


def _told(row: IncidentRow, signal: SignalRow, acknowledged_at: datetime | None) -> Told:
    verdict = dict(row.details.get("verdict") or {}).get("verdict", "")
    return Told(
        incident=row.id,
        detector=signal.detector,
        severity=row.severity,
        opened_at=row.opened_at,
        seen_at=signal.at,
        changed_at=_since(signal.details),
        acknowledged_at=acknowledged_at,
        worth=worth_of(
            str(row.details.get(JUDGED, "")),
            str(verdict),
            taken_on=acknowledged_at is not None or row.state == "mitigated",
        ),
    )


def _since(details: Mapping[str, Any]) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(details["since_at"]))
    except (KeyError, ValueError):
        return None
    return moment if moment.tzinfo else None
