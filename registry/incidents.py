"""Incidents: all signals of one cause are one, from opening to resolution.

The cause is the release of the version that the signals are about: the version and the
generation in which it took its role. So input drift and loss of the same champion are one
incident; the same version, promoted again later, has another. Its kind, title and severity are
those of its gravest signal, by severity first and then by kind:

    registry, silence < input-drift < loss < worse-than-standby, hard-failure

    open -> acknowledged -> mitigated -> resolved           (steps may be left out)
      ^------------------------'  a graver signal came: what was done has not helped

What on-call has to hear (opened, graver, mitigated, resolved) goes to the outbox in the same
transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from homeostat.errors import InputError
from homeostat.policy import Receiver
from monitoring.verdicts import Ruling
from registry.incident_alerts import ACKNOWLEDGED, OVER, put_out, tell
from registry.incident_records import (
    STATES,
    Incident,
    IncidentEvent,
    State,
    find_incident,
    incident_history,
    open_incidents,
    read_incident,
    state_of,
)
from registry.incident_signals import raise_signal, ruling_of
from registry.tables import IncidentRow

__all__ = [
    "Incident",
    "IncidentEvent",
    "acknowledge",
    "find_incident",
    "incident_history",
    "inform",
    "mitigate",
    "note",
    "open_incidents",
    "raise_signal",
    "record_ruling",
    "resolve",
    "unknown_incident",
]


def note(session: Session, incident_id: str, text: str, at: datetime) -> Incident:
    """Add a line to an incident's story.

    Raises:
        InputError: there is no such incident.
    """
    tell(session, _row(session, incident_id), at, text)
    return read_incident(session, incident_id)


def inform(
    session: Session,
    incident_id: str,
    text: str,
    at: datetime,
    urls: Sequence[Receiver] = (),
    *,
    next_step: str = "",
) -> Incident:
    """Add a line to an incident's story that on-call has to hear; its state stays.

    Args:
        session: Open transaction.
        incident_id: Which one.
        text: What was done.
        at: When.
        urls: Where the alert goes.
        next_step: What comes next, for the alert.

    Raises:
        InputError: there is no such incident.
    """
    row = _row(session, incident_id)
    tell(session, row, at, text)
    news = at.isoformat()
    put_out(session, row, "update", at, urls, done=text, next_step=next_step, news=news)
    return read_incident(session, incident_id)


def record_ruling(session: Session, incident_id: str, ruling: Ruling, at: datetime) -> Incident:
    """Keep the verdict on an incident; its story gets a line where the verdict is another one.

    Raises:
        InputError: there is no such incident.
    """
    row = _row(session, incident_id)
    before = row.details.get("verdict", {})
    said = ruling_of(ruling)
    if said != before:
        row.details = row.details | {"verdict": said}
    if (before.get("verdict"), before.get("answer")) != (ruling.verdict, ruling.answer):
        named = ruling.verdict.replace("-", " ")
        tell(session, row, at, f"Verdict: {named}, {ruling.answer}. {ruling.reason}")
    return read_incident(session, incident_id)


def acknowledge(
    session: Session, incident_id: str, actor: str, at: datetime, urls: Sequence[Receiver] = ()
) -> Incident:
    """Somebody has seen it; a later state stays. Where alerts go (`urls`), it is told.

    Raises:
        InputError: there is no such incident.
    """
    row = _row(session, incident_id)
    if _advance(row, "acknowledged"):
        text = f"{ACKNOWLEDGED} {actor}."
        tell(session, row, at, text)
        step = f"{actor} looks into it."
        put_out(session, row, "update", at, urls, done=text, next_step=step, undo=row.undo)
    return read_incident(session, incident_id)


def mitigate(
    session: Session,
    incident_id: str,
    text: str,
    at: datetime,
    urls: Sequence[Receiver] = (),
    undo: str = "",
    *,
    happened: str = "",
    next_step: str = "",
) -> Incident:
    """Its harm has ended, its cause has not: traffic went back, say.

    Args:
        session: Open transaction.
        incident_id: Which one.
        text: What was done.
        at: When.
        urls: Where the alert goes.
        undo: The command that takes it back.
        happened: What it was done about; empty: the reason of the gravest signal.
        next_step: What comes next, for the alert.

    Raises:
        InputError: there is no such incident.
    """
    row = _row(session, incident_id)
    row.undo = undo or row.undo
    if _advance(row, "mitigated"):
        tell(session, row, at, f"{text} {happened}".strip())
        step = next_step or "somebody has to look for the cause."
        said = {"happened": happened, "done": text, "next_step": step, "undo": row.undo}
        put_out(session, row, "update", at, urls, **said)
    return read_incident(session, incident_id)


def resolve(
    session: Session,
    incident_id: str,
    text: str,
    at: datetime,
    urls: Sequence[Receiver] = (),
    undo: str = "",
) -> Incident:
    """It is over; a later signal of the same cause opens a new one. Twice is once.

    Args:
        session: Open transaction.
        incident_id: Which one.
        text: What ended it.
        at: When.
        urls: Where the alert goes.
        undo: The command that takes back what ended it; empty keeps what is there.

    Raises:
        InputError: there is no such incident.
    """
    row = _row(session, incident_id)
    if _advance(row, "resolved"):
        row.undo = undo or row.undo
        row.resolved_at = at
        tell(session, row, at, text)
        put_out(session, row, "resolved", at, urls, done=text, next_step=OVER, undo=row.undo)
    return read_incident(session, incident_id)


def _advance(row: IncidentRow, state: State) -> bool:
    if STATES.index(state_of(row.state)) >= STATES.index(state):
        return False
    row.state = state
    return True


def _row(session: Session, incident_id: str) -> IncidentRow:
    row = session.get(IncidentRow, incident_id, with_for_update=True, populate_existing=True)
    if row is None:
        raise unknown_incident(incident_id)
    return row


def unknown_incident(incident_id: str) -> InputError:
    """The error of an incident that is not there, or not there for who asks."""
    return InputError(
        f"There is no incident '{incident_id}'.",
        remedy="List the incidents to find its id.",
        incident=incident_id,
    )
