"""Sessions of the page that were signed out: a copy of their cookie opens nothing any more."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from registry.statements import insert_new
from registry.tables import EndedSessionRow


def end_session(session: Session, key: str, until: datetime, now: datetime) -> None:
    """Keep that a session is over until its cookie would be anyway; again changes nothing.

    Args:
        session: Open transaction.
        key: Its id.
        until: When its cookie ends by itself.
        now: The present moment: what ended before is forgotten.
    """
    session.execute(delete(EndedSessionRow).where(EndedSessionRow.until <= now))
    statement = insert_new(session, EndedSessionRow, EndedSessionRow.id)
    session.execute(statement.values(id=key, until=until))


def ended_sessions(session: Session, now: datetime) -> frozenset[str]:
    """The ids of all whose cookies would still be good."""
    return frozenset(session.scalars(select(EndedSessionRow.id).where(EndedSessionRow.until > now)))
