"""Incidents: all signals of one cause are one, from opening to resolution.

The cause is the release of the version that the signals are about: the version and the
generation in which it took its role. So input drift and loss of the same champion are one
incident, whose severity can only rise; the same version, promoted again later, has another.

    open -> acknowledged -> mitigated -> resolved      (steps may be left out, never taken back)

What on-call has to hear (opened, more severe, mitigated, resolved) goes to the outbox in the
same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import uuid6
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from homeostat.errors import InputError
from monitoring import Alert, Signal, Triage
from registry.incident_records import (
    SEVERITIES,
    STATES,
    Incident,
    IncidentEvent,
    State,
    find_incident,
    incident_history,
    open_incidents,
    severity_of,
    state_of,
)
from registry.outbox import enqueue
from registry.release_history import find_release
from registry.statements import insert_new
from registry.tables import IncidentEventRow, IncidentRow, SignalRow

__all__ = [
    "Incident",
    "IncidentEvent",
    "acknowledge",
    "find_incident",
    "incident_history",
    "mitigate",
    "note",
    "open_incidents",
    "raise_signal",
    "resolve",
]

TITLES = {
    "input-drift": "the inputs changed",
    "loss": "accuracy fell",
    "worse-than-standby": "it is worse than its standby",
    "hard-failure": "it fails",
    "registry": "its registry needs a look",
}


def raise_signal(
    session: Session,
    model: str,
    version: int,
    signal: Signal,
    triage: Triage,
    at: datetime,
    undo: str,
    urls: Sequence[str] = (),
) -> Incident:
    """Open the incident of a signal's cause, or attach the signal to the open one.

    Args:
        session: Open transaction.
        model: The registered model's name.
        version: The version that the signal is about.
        signal: A detector's evidence that crossed its threshold.
        triage: What the policy makes of it.
        at: When.
        undo: How to take back what is done about it; empty keeps what is there.
        urls: Where alerts go: the policy's `alerts`.
    """
    release = find_release(session, model, version)
    cause = f"{model}:{version}@g{release.generation if release else 0}"
    row, opened = _open(session, model, cause, version, signal, triage, at, undo)
    told = select(func.count()).where(
        SignalRow.incident_id == row.id,
        SignalRow.kind == signal.kind,
        SignalRow.detector == signal.detector,
    )
    repeated = bool(session.scalar(told))
    _attach(session, row, version, signal, at)
    risen = SEVERITIES.index(triage.severity) > SEVERITIES.index(severity_of(row.severity))
    if risen:
        row.severity = triage.severity
    row.undo = undo or row.undo
    row.details = _details(signal, triage)
    if not repeated or risen:
        _tell(session, row, at, f"{signal.detector}: {triage.reason}")
    if opened:
        _alert(session, row, "open", at, triage.reason, urls)
    elif risen:
        _alert(session, row, "update", at, triage.reason, urls)
    return _incident(session, row.id)


def note(session: Session, incident_id: str, text: str, at: datetime) -> Incident:
    """Add a line to an incident's story.

    Raises:
        InputError: there is no such incident.
    """
    _tell(session, _row(session, incident_id), at, text)
    return _incident(session, incident_id)


def acknowledge(session: Session, incident_id: str, actor: str, at: datetime) -> Incident:
    """Somebody has seen it; a later state stays.

    Raises:
        InputError: there is no such incident.
    """
    row = _row(session, incident_id)
    if _advance(row, "acknowledged"):
        _tell(session, row, at, f"Acknowledged by {actor}.")
    return _incident(session, incident_id)


def mitigate(
    session: Session,
    incident_id: str,
    text: str,
    at: datetime,
    urls: Sequence[str] = (),
    undo: str = "",
) -> Incident:
    """Its harm has ended, its cause has not: traffic went back, say.

    Raises:
        InputError: there is no such incident.
    """
    row = _row(session, incident_id)
    row.undo = undo or row.undo
    if _advance(row, "mitigated"):
        _tell(session, row, at, text)
        _alert(session, row, "update", at, text, urls)
    return _incident(session, incident_id)


def resolve(
    session: Session, incident_id: str, text: str, at: datetime, urls: Sequence[str] = ()
) -> Incident:
    """It is over; a later signal of the same cause opens a new one. Twice is once.

    Raises:
        InputError: there is no such incident.
    """
    row = _row(session, incident_id)
    if _advance(row, "resolved"):
        row.resolved_at = at
        _tell(session, row, at, text)
        _alert(session, row, "resolved", at, text, urls)
    return _incident(session, incident_id)


def _open(
    session: Session,
    model: str,
    cause: str,
    version: int,
    signal: Signal,
    triage: Triage,
    at: datetime,
    undo: str,
) -> tuple[IncidentRow, bool]:
    """The unresolved incident of a cause, locked, and whether it was made just now."""
    standing = select(IncidentRow).where(
        IncidentRow.cause == cause, IncidentRow.state != "resolved"
    )
    standing = standing.with_for_update().execution_options(populate_existing=True)
    opened = False
    # Again only where another process opened one and resolved it between our two statements.
    while (row := session.scalar(standing)) is None:
        past = session.scalar(select(func.count()).where(IncidentRow.cause == cause)) or 0
        made = insert_new(session, IncidentRow).values(
            id=str(uuid6.uuid7()),
            model=model,
            cause=cause,
            key=cause if past == 0 else f"{cause}#{past + 1}",
            kind=signal.kind,
            severity=triage.severity,
            state="open",
            title=f"{model}:{version}: {TITLES.get(signal.kind, signal.kind)}",
            opened_at=at,
            resolved_at=None,
            version=version,
            undo=undo,
            details=_details(signal, triage),
        )
        opened = session.scalar(made.returning(IncidentRow.id)) is not None
    return row, opened


def _attach(session: Session, row: IncidentRow, version: int, signal: Signal, at: datetime) -> None:
    session.add(
        SignalRow(
            incident_id=row.id,
            model=row.model,
            version=version,
            kind=signal.kind,
            detector=signal.detector,
            evidence=float(signal.evidence),
            threshold=float(signal.threshold),
            rows=int(signal.rows),
            since=int(signal.since),
            details=dict(signal.details),
            at=at,
        )
    )


def _details(signal: Signal, triage: Triage) -> dict[str, Any]:
    return dict(signal.details) | {
        "kind": signal.kind,
        "detector": signal.detector,
        "evidence": float(signal.evidence),
        "threshold": float(signal.threshold),
        "rows": int(signal.rows),
        "since": int(signal.since),
        "action": triage.action,
        "reason": triage.reason,
    }


def _tell(session: Session, row: IncidentRow, at: datetime, text: str) -> None:
    session.add(IncidentEventRow(incident_id=row.id, at=at, text=text))
    session.flush()


def _alert(
    session: Session,
    row: IncidentRow,
    status: Literal["open", "update", "resolved"],
    at: datetime,
    text: str,
    urls: Sequence[str],
) -> None:
    alert = Alert(
        # One alert of each state and severity, so that a repeated step sends nothing twice.
        id=f"{row.key}/{row.state}/{row.severity}",
        key=row.key,
        status=status,
        severity=severity_of(row.severity),
        title=row.title,
        text=text,
        model=row.model,
        at=at,
        details=row.details | {"incident": row.id, "state": row.state, "undo": row.undo},
    )
    session.flush()
    enqueue(session, urls, alert, at, row.id)


def _advance(row: IncidentRow, state: State) -> bool:
    if STATES.index(state_of(row.state)) >= STATES.index(state):
        return False
    row.state = state
    return True


def _row(session: Session, incident_id: str) -> IncidentRow:
    row = session.get(IncidentRow, incident_id, with_for_update=True, populate_existing=True)
    if row is None:
        raise InputError(
            f"There is no incident '{incident_id}'.",
            remedy="List the incidents to find its id.",
            incident=incident_id,
        )
    return row


def _incident(session: Session, incident_id: str) -> Incident:
    session.flush()
    found = find_incident(session, incident_id)
    assert found is not None
    return found
