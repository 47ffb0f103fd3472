"""Leases: who may act under a name, for how long, with a fencing token.

A holder that died frees its lease by letting it run out. A holder that only slept finds its
token outgrown: `check` inside the transaction that acts refuses it (Kleppmann, *How to do
distributed locking*, 2016).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import case, or_, select, update
from sqlalchemy.orm import Session

from homeostat.errors import Refused
from registry.statements import insert
from registry.tables import LeaseRow

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def acquire(session: Session, name: str, holder: str, seconds: float, now: datetime) -> int | None:
    """Take a lease that is free, has run out or is the holder's own.

    Returns:
        The fencing token: the same while one holder keeps it, larger for each new holder.
        None while somebody else holds it.
    """
    statement = insert(session, LeaseRow).values(
        name=name, holder=holder, token=1, expires_at=now + timedelta(seconds=seconds)
    )
    own = (LeaseRow.holder == holder) & (LeaseRow.expires_at > now)
    return session.scalar(
        statement.on_conflict_do_update(
            index_elements=[LeaseRow.name],
            set_={
                "holder": statement.excluded.holder,
                "token": case((own, LeaseRow.token), else_=LeaseRow.token + 1),
                "expires_at": statement.excluded.expires_at,
            },
            where=or_(LeaseRow.expires_at <= now, LeaseRow.holder == holder),
        ).returning(LeaseRow.token)
    )


def renew(session: Session, name: str, token: int, seconds: float, now: datetime) -> bool:
    """Lengthen a lease that still holds; False when it ran out or is somebody else's."""
    statement = (
        update(LeaseRow)
        .where(LeaseRow.name == name, LeaseRow.token == token, LeaseRow.expires_at > now)
        .values(expires_at=now + timedelta(seconds=seconds))
        .returning(LeaseRow.token)
    )
    return session.scalar(statement) is not None


def release(session: Session, name: str, token: int) -> bool:
    """Give a lease back; False when it is somebody else's by now."""
    statement = (
        update(LeaseRow)
        .where(LeaseRow.name == name, LeaseRow.token == token)
        .values(expires_at=LONG_AGO)  # the row stays: its token must go on growing
        .returning(LeaseRow.token)
    )
    return session.scalar(statement) is not None


def check(session: Session, name: str, token: int, now: datetime) -> None:
    """Refuse to act under a lease that is lost; call it in the transaction that acts.

    The row stays locked until the transaction ends, so nobody takes it over in between.

    Raises:
        Refused: the lease ran out or has a new holder.
    """
    query = select(LeaseRow).where(LeaseRow.name == name).with_for_update()
    row = session.scalar(query.execution_options(populate_existing=True))
    if row is None or row.token != token or row.expires_at <= now:
        raise Refused(
            f"The lease '{name}' is held by {row.holder if row else 'nobody'}, not under"
            f" token {token}.",
            remedy="Take the lease again before acting.",
            holder=row.holder if row else "",
        )
