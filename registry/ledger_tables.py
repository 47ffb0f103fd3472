"""The tables of releases: the ledger, who may serve, and on whose word."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from registry.columns import Digest, Model, Serial, SpeltMoment, Table


class LedgerRow(Table):
    """One line of a model's append-only, hash-chained ledger; see `registry.ledger`."""

    __tablename__ = "ledger"
    __table_args__ = (
        Index(None, "model", "kind", "generation"),
        Index(None, "model", "kind", "at", "line"),
        # One tree, so that what is read is what was stored: no index stands in for a column.
        {"sqlite_with_rowid": False},
    )

    model: Mapped[str] = mapped_column(Model, primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(32))
    generation: Mapped[int]
    version: Mapped[int | None]
    digest: Mapped[str] = mapped_column(Digest)
    at: Mapped[datetime] = mapped_column(SpeltMoment)
    actor: Mapped[str]
    reason: Mapped[str]
    before: Mapped[str | None]
    after: Mapped[str | None]
    evidence: Mapped[str]  # canonical JSON as text, so that its bytes are what was hashed
    previous_hash: Mapped[str] = mapped_column(Digest)
    hash: Mapped[str] = mapped_column(Digest)


class ReleaseRow(Table):
    """One version's time in one role; at most one is open for each model and role."""

    __tablename__ = "releases"
    __table_args__ = (
        Index(None, "model", "version"),
        Index(None, "model", "generation"),
        Index(
            "uq_releases_open",
            "model",
            "role",
            unique=True,
            sqlite_where=text("to_at IS NULL"),
            postgresql_where=text("to_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    model: Mapped[str] = mapped_column(Model)
    version: Mapped[int]
    generation: Mapped[int]
    digest: Mapped[str] = mapped_column(Digest)
    role: Mapped[str] = mapped_column(String(16))
    from_at: Mapped[datetime]
    to_at: Mapped[datetime | None]
    by: Mapped[str]
    why: Mapped[str]
    ended_why: Mapped[str]


class VerdictRow(Table):
    """What the gates said of a version; the newest row of a version stands.

    `document` is canonical JSON as text, so that its bytes are what was hashed.
    """

    __tablename__ = "verdicts"
    __table_args__ = (Index(None, "model", "version"),)

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    model: Mapped[str] = mapped_column(Model)
    version: Mapped[int]
    digest: Mapped[str] = mapped_column(Digest)
    passed: Mapped[bool]
    document: Mapped[str]
    hash: Mapped[str] = mapped_column(Digest)
    at: Mapped[datetime]


class ApprovalRow(Table):
    """One person's word for a version, given on one verdict: on no other it counts."""

    __tablename__ = "approvals"
    __table_args__ = (UniqueConstraint("model", "version", "verdict", "person"),)

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    model: Mapped[str] = mapped_column(Model)
    version: Mapped[int]
    digest: Mapped[str] = mapped_column(Digest)
    verdict: Mapped[str] = mapped_column(Digest)
    person: Mapped[str] = mapped_column(String(255))
    token: Mapped[str] = mapped_column(Digest)
    reason: Mapped[str]
    at: Mapped[datetime]


class OverrideRow(Table):
    """A person's leave for a version without a passing verdict, until it expires."""

    __tablename__ = "overrides"
    __table_args__ = (Index(None, "model", "version"),)

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    model: Mapped[str] = mapped_column(Model)
    version: Mapped[int]
    actor: Mapped[str]
    reason: Mapped[str]
    expires_at: Mapped[datetime]
    at: Mapped[datetime]


class QuarantineRow(Table):
    """A digest that may not answer; `released_at` is when a person let it go again."""

    __tablename__ = "quarantine"
    __table_args__ = (
        Index(
            "uq_quarantine_open",
            "model",
            "digest",
            unique=True,
            sqlite_where=text("released_at IS NULL"),
            postgresql_where=text("released_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    model: Mapped[str] = mapped_column(Model)
    digest: Mapped[str] = mapped_column(Digest)
    reason: Mapped[str]
    at: Mapped[datetime]
    released_at: Mapped[datetime | None]


class PauseRow(Table):
    """A model whose automation is paused; one whose `until` has passed is no more."""

    __tablename__ = "pauses"

    model: Mapped[str] = mapped_column(Model, primary_key=True)
    actor: Mapped[str]
    reason: Mapped[str]
    at: Mapped[datetime]
    until: Mapped[datetime | None]


class EndedSessionRow(Table):
    """A session of the page that was signed out before its cookie ends."""

    __tablename__ = "ended_sessions"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    until: Mapped[datetime]


class TokenRow(Table):
    """One secret of a named holder, as its hash; while it is rotated a name has two."""

    __tablename__ = "tokens"
    __table_args__ = (Index(None, "name"),)

    key: Mapped[str] = mapped_column(String(12), primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    hash: Mapped[str] = mapped_column(Digest)
    verbs: Mapped[list[str]] = mapped_column(JSON)
    models: Mapped[list[str]] = mapped_column(JSON)  # empty: all
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]
