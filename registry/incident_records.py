"""Incidents as they are read: what on-call sees, with its story."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, selectinload

from registry.tables import IncidentEventRow, IncidentRow

Severity = Literal["ticket", "page"]
State = Literal["open", "acknowledged", "mitigated", "resolved"]
STATES: tuple[State, ...] = ("open", "acknowledged", "mitigated", "resolved")
SILENCE = "silence"  # something that should come does not
ASIDE = ("registry", SILENCE)  # kinds that say nothing of how well a version answers
SEVERITIES: tuple[Severity, ...] = ("ticket", "page")


@dataclass(frozen=True)
class IncidentEvent:
    """One line of an incident's story."""

    at: datetime
    text: str


@dataclass(frozen=True)
class Incident:
    """What on-call sees.

    Args:
        id: UUIDv7.
        model: The registered model's name.
        key: The same through the incident's life: receivers know it by this.
        kind: Of the gravest signal.
        severity: `ticket` or `page`.
        state: `open`, `acknowledged`, `mitigated` or `resolved`.
        title: One line.
        opened_at: When the first signal came.
        resolved_at: When it was over, or None.
        version: The version that it is about.
        undo: How to take back what was done about it.
        details: The gravest signal's figures and the reason of its triage.
        events: The story, oldest first.
    """

    id: str
    model: str
    key: str
    kind: str
    severity: Severity
    state: State
    title: str
    opened_at: datetime
    resolved_at: datetime | None
    version: int
    undo: str
    details: dict[str, Any]
    events: tuple[IncidentEvent, ...] = ()


def find_incident(session: Session, incident_id: str) -> Incident | None:
    """The incident of that id, or None."""
    found = _read(session, _query().where(IncidentRow.id == incident_id))
    return found[0] if found else None


def read_incident(session: Session, incident_id: str) -> Incident:
    """The incident of that id as this transaction leaves it; it has to be there."""
    session.flush()
    found = find_incident(session, incident_id)
    assert found is not None
    return found


def open_incidents(session: Session, model: str | None = None) -> list[Incident]:
    """Every unresolved incident (of a model), oldest first."""
    query = _query().where(IncidentRow.state != "resolved")
    if model is not None:
        query = query.where(IncidentRow.model == model)
    return _read(session, query.order_by(IncidentRow.opened_at, IncidentRow.id))


def newest_event(session: Session, model: str) -> int:
    """The number of the newest line in the stories of a model's incidents, resolved ones too."""
    query = (
        select(IncidentEventRow.id)
        .join(IncidentRow, IncidentRow.id == IncidentEventRow.incident_id)
        .where(IncidentRow.model == model)
        .order_by(IncidentEventRow.id.desc())
        .limit(1)
    )
    return session.scalar(query) or 0


def incident_history(
    session: Session, model: str | None = None, limit: int = 100
) -> list[Incident]:
    """The newest incidents (of a model), resolved ones too, newest first."""
    query = _query().order_by(IncidentRow.opened_at.desc(), IncidentRow.id.desc()).limit(limit)
    if model is not None:
        query = query.where(IncidentRow.model == model)
    return _read(session, query)


def _query() -> Select[IncidentRow]:
    return select(IncidentRow).options(selectinload(IncidentRow.events))


def _read(session: Session, query: Select[IncidentRow]) -> list[Incident]:
    rows = session.scalars(query.execution_options(populate_existing=True))
    return [
        Incident(
            id=row.id,
            model=row.model,
            key=row.key,
            kind=row.kind,
            severity=severity_of(row.severity),
            state=state_of(row.state),
            title=row.title,
            opened_at=row.opened_at,
            resolved_at=row.resolved_at,
            version=row.version,
            undo=row.undo,
            details=row.details,
            events=tuple(IncidentEvent(event.at, event.text) for event in row.events),
        )
        for row in rows
    ]


def severity_of(value: str) -> Severity:
    """A stored severity."""
    return "page" if value == "page" else "ticket"


def state_of(value: str) -> State:
    """A stored state."""
    return next(state for state in STATES if state == value)


def change_of(incident: Incident) -> datetime:
    """When what an incident is about began, by its newest signal, else when it was opened."""
    try:
        moment = datetime.fromisoformat(str(incident.details["since_at"]))
    except (KeyError, ValueError):
        return incident.opened_at
    return min(moment, incident.opened_at) if moment.tzinfo else incident.opened_at
