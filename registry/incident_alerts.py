"""What an alert says: what happened, what was done, what comes next, and how to undo it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from homeostat.policy import Receiver
from monitoring import Alert, Triage
from monitoring.runbooks import runbook_of
from registry.alert_routes import recipients
from registry.incident_records import severity_of
from registry.outbox import enqueue
from registry.tables import IncidentEventRow, IncidentRow, OutboxRow, SignalRow

ACKNOWLEDGED = "Acknowledged by"  # how the line of a story begins that says so
NOTHING_DONE = "Nothing was done yet."
OVER = "nothing; it is over."
INCIDENT = "{incident}"  # stands for the incident's id in what comes next

TITLES = {
    "input-drift": "the inputs changed",
    "loss": "accuracy fell",
    "worse-than-standby": "it is worse than its standby",
    "hard-failure": "it fails",
    "registry": "its registry needs a look",
    "silence": "something does not come any more",
}

_NEXT: Mapping[str, str] = {
    "retrain": "a retrain, once enough labels have come since the change.",
    "rollback": "traffic goes back to the standby.",
    "watch": "nothing, until labels say that accuracy fell.",
    "page": "somebody has to look; nothing moves by itself.",
}


def next_of(kind: str, triage: Triage) -> str:
    """What comes next where the caller knows no better."""
    if kind == "registry":
        return "somebody has to look; traffic does not move by itself."
    return _NEXT[triage.action]


def tell(session: Session, row: IncidentRow, at: datetime, text: str) -> None:
    """Add a line to an incident's story."""
    session.add(IncidentEventRow(incident_id=row.id, at=at, text=text))
    session.flush()


def put_out(
    session: Session,
    row: IncidentRow,
    status: Literal["update", "resolved"],
    at: datetime,
    urls: Sequence[Receiver],
    *,
    happened: str = "",
    done: str = "",
    next_step: str = "",
    undo: str = "",
    news: str = "",
) -> None:
    """Put an alert of an incident into the outbox; the same news goes out once.

    The first alert of an incident to an address has the status `open`, whatever state it is in: a
    rollback opens and mitigates in one transaction and is one alert.

    Args:
        session: Open transaction.
        row: The incident, as it is now.
        status: Of an alert that is not the first.
        at: When.
        urls: Where it goes.
        happened: In a sentence; empty: the reason of the gravest signal.
        done: In a sentence; empty: nothing was done.
        next_step: What comes next; `{incident}` in it becomes the incident's id.
        undo: The command that takes back what was done; empty where there is none.
        news: Tells alerts apart that are of one state, severity and kind.
    """
    session.flush()
    happened = happened or str(row.details.get("reason", ""))
    kinds = _kinds(session, row)
    parts = [_sentence(happened)]
    if others := [TITLES[kind] for kind in kinds if kind != row.kind and kind in TITLES]:
        parts.append(_sentence(f"Seen with it: {', '.join(others)}"))
    parts.append(_sentence(done or NOTHING_DONE))
    if next_step:
        parts.append(_sentence(f"Next: {next_step.replace(INCIDENT, row.id)}"))
    if undo:
        parts.append(f"To undo: {undo}")
    told = set(session.scalars(select(OutboxRow.url).where(OutboxRow.incident_id == row.id)))
    alert = Alert(
        # One of each state, severity and kind, so that a repeated step sends nothing twice.
        id="/".join([row.key, row.state, row.severity, row.kind, *([news] if news else [])]),
        key=row.key,
        status=status,
        severity=severity_of(row.severity),
        title=row.title,
        text=" ".join(part for part in parts if part),
        model=row.model,
        at=at,
        details=row.details
        | {
            "incident": row.id,
            "state": row.state,
            "opened_at": row.opened_at.isoformat(),
            "undo": undo,
            "runbook": runbook_of(row.kind, row.details),
            "signals": kinds,
        },
    )
    times = recipients(urls, alert.severity, at, told)
    if status == "resolved":
        enqueue(session, times, alert, at, row.id)
        return
    known = {url: moment for url, moment in times.items() if url in told}
    enqueue(session, known, alert, at, row.id)
    new = {url: moment for url, moment in times.items() if url not in told}
    enqueue(session, new, replace(alert, status="open"), at, row.id)


def _kinds(session: Session, row: IncidentRow) -> list[str]:
    """The kinds of the incident's signals so far, the first first."""
    query = select(SignalRow.kind).where(SignalRow.incident_id == row.id)
    return list(session.scalars(query.group_by(SignalRow.kind).order_by(func.min(SignalRow.id))))


def _sentence(text: str) -> str:
    """With its full stop: what a person gave as a reason seldom has one, and a command never."""
    text = text.strip()
    return f"{text}." if text and text[-1].isalnum() else text
