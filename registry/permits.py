"""Leave and bar: overrides that a person grants for a time, artifacts in quarantine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from homeostat.errors import Refused
from registry.columns import spell
from registry.ledger import hold, record
from registry.tables import LedgerRow, OverrideRow, QuarantineRow

QUARANTINE = "quarantine"  # the kind of its lines of the ledger


@dataclass(frozen=True)
class Override:
    """A person's leave for a version without a passing verdict, until `expires_at`."""

    model: str
    version: int
    actor: str
    reason: str
    expires_at: datetime
    at: datetime


@dataclass(frozen=True)
class Quarantined:
    """A digest that may not answer, and why."""

    model: str
    digest: str
    reason: str
    at: datetime


@dataclass(frozen=True)
class Barred:
    """An artifact in quarantine: of which version, as far as the ledger knows, and by whom."""

    version: int | None
    digest: str
    reason: str
    actor: str
    at: datetime


def quarantine(
    session: Session,
    model: str,
    digest: str,
    reason: str,
    now: datetime,
    *,
    actor: str,
    version: int | None = None,
) -> None:
    """Bar an artifact from answering; the first reason stands.

    Args:
        session: Open transaction.
        model: The registered model's name.
        digest: Of the artifact.
        reason: Why.
        now: When.
        actor: Who bars it, for the ledger.
        version: Whose artifact it is, for the ledger.
    """
    hold(session, model)  # so that of two who bar it at once only one writes a line
    if quarantined(session, model, digest) is not None:
        return
    record(
        session,
        model,
        QUARANTINE,
        actor=actor,
        reason=reason,
        at=now,
        before=None,
        after="in quarantine",
        version=version,
        digest=digest,
    )
    session.add(QuarantineRow(model=model, digest=digest, reason=reason, at=now, released_at=None))
    session.flush()


def release_quarantine(
    session: Session,
    model: str,
    digest: str,
    now: datetime,
    *,
    actor: str,
    reason: str,
    version: int | None = None,
) -> None:
    """Let an artifact go again, if it is barred; see `quarantine`."""
    hold(session, model)
    if quarantined(session, model, digest) is None:
        return
    record(
        session,
        model,
        QUARANTINE,
        actor=actor,
        reason=reason,
        at=now,
        before="in quarantine",
        after=None,
        version=version,
        digest=digest,
    )
    session.execute(
        update(QuarantineRow)
        .where(
            QuarantineRow.model == model,
            QuarantineRow.digest == digest,
            QuarantineRow.released_at.is_(None),
        )
        .values(released_at=now)
    )


def quarantined(session: Session, model: str, digest: str) -> Quarantined | None:
    """Why an artifact is barred, or None."""
    query = select(
        QuarantineRow.model, QuarantineRow.digest, QuarantineRow.reason, QuarantineRow.at
    ).where(
        QuarantineRow.model == model,
        QuarantineRow.digest == digest,
        QuarantineRow.released_at.is_(None),
    )
    row = session.execute(query).one_or_none()
    return None if row is None else Quarantined(*row)


def barred(session: Session, model: str) -> list[Barred]:
    """Every artifact of a model in quarantine, the newest first."""
    query = (
        select(QuarantineRow.digest, QuarantineRow.reason, QuarantineRow.at)
        .where(QuarantineRow.model == model, QuarantineRow.released_at.is_(None))
        .order_by(QuarantineRow.at.desc(), QuarantineRow.id.desc())
    )
    lines = select(LedgerRow.digest, LedgerRow.version, LedgerRow.actor).where(
        LedgerRow.model == model,
        LedgerRow.kind == QUARANTINE,
        LedgerRow.after.is_not(None),
    )
    known = {
        digest: (version, actor)
        for digest, version, actor in session.execute(lines.order_by(LedgerRow.line))
    }
    return [
        Barred(version, digest, reason, actor, at)
        for digest, reason, at in session.execute(query)
        for version, actor in [known.get(digest, (None, ""))]
    ]


def grant_override(
    session: Session,
    model: str,
    version: int,
    actor: str,
    reason: str,
    expires_at: datetime,
    now: datetime,
) -> Override:
    """Let a version take traffic without a passing verdict, until a stated moment.

    Raises:
        Refused: it has no reason, or would have expired already.
    """
    if not reason.strip():
        raise Refused("An override needs a reason.", remedy="Say why in a sentence.")
    if expires_at <= now:
        raise Refused(
            f"An override until {expires_at.isoformat()} is over already.",
            remedy="Give a moment in the future.",
        )
    granted = Override(model, version, actor, reason, expires_at, now)
    record(
        session,
        model,
        "override",
        actor=actor,
        reason=reason,
        at=now,
        before=None,
        after=f"allowed until {spell(expires_at)}",
        version=version,
    )
    session.add(
        OverrideRow(
            model=model,
            version=version,
            actor=actor,
            reason=reason,
            expires_at=expires_at,
            at=now,
        )
    )
    session.flush()
    return granted


def active_override(session: Session, model: str, version: int, now: datetime) -> Override | None:
    """The override of a version that lasts longest, or None when none is in force."""
    found = [item for item in active_overrides(session, model, now) if item.version == version]
    return found[-1] if found else None


def active_overrides(session: Session, model: str, now: datetime) -> list[Override]:
    """Every override of a model that is in force, the one that ends first first."""
    query = (
        select(
            OverrideRow.model,
            OverrideRow.version,
            OverrideRow.actor,
            OverrideRow.reason,
            OverrideRow.expires_at,
            OverrideRow.at,
        )
        .where(OverrideRow.model == model, OverrideRow.expires_at > now)
        .order_by(OverrideRow.expires_at, OverrideRow.id)
    )
    return [Override(*row) for row in session.execute(query)]
