"""The ledger: every change of routing or alias of a model, one line each, never changed again.

Lines are numbered from 1 for each model, and each carries the hash of the line before it, so
that a line that was changed, taken out or put in shows. A writer holds the end of the chain until
its transaction ends: others queue, nobody forks it, and a note about an alias never loses a race.

A line's hash is SHA-256 of the canonical JSON (RFC 8785: sorted keys, no spaces, UTF-8) of its
other fields, which are texts, whole numbers and null only: any language can check it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from homeostat.errors import LedgerBroken, Refused
from registry.columns import spell
from registry.json_text import canonical, storable
from registry.statements import columns_of
from registry.tables import LedgerRow

ROUTING = "routing"  # the kind of line that moves traffic; `registry.routing` alone writes it
FIRST_HASH = "0" * 64  # what the first line of a model's ledger follows
LONGEST_KIND = 32
CHAINS = 0x6C656467  # PostgreSQL's advisory locks on the ends of chains are taken under it


@dataclass(frozen=True)
class Line:
    """One change.

    Args:
        model: The registered model's name.
        line: Its number in the model's ledger; the first is 1.
        kind: `routing`, or what else was changed: `alias`, `override`, `quarantine`, ...
        generation: Of the routing in force once this line stands; 0 before the first.
        version: Which version it is about (of a routing: its champion), or None.
        digest: Of that version's artifact; empty where nobody told it.
        at: When.
        actor: Who.
        reason: Why.
        before: What was, or None.
        after: What is since, or None. Of a routing both are its split as JSON.
        evidence: The figures behind it.
        previous_hash: The hash of the line before.
        hash: SHA-256 over all of this.
    """

    model: str
    line: int
    kind: str
    generation: int
    version: int | None
    digest: str
    at: datetime
    actor: str
    reason: str
    before: str | None
    after: str | None
    evidence: dict[str, Any]
    previous_hash: str
    hash: str


@dataclass(frozen=True)
class Head:
    """Where a model's ledger ends: `line` and `generation` are 0 before the first line."""

    line: int = 0
    hash: str = FIRST_HASH
    generation: int = 0


def record(
    session: Session,
    model: str,
    kind: str,
    *,
    actor: str,
    reason: str,
    at: datetime,
    before: str | None,
    after: str | None,
    evidence: Mapping[str, Any] | None = None,
    version: int | None = None,
    digest: str = "",
) -> Line:
    """Append what is no routing: an alias that moved, an override, a quarantine, an approval.

    It is kept or lost with the caller's transaction, and never loses a race: others wait until
    that transaction ends, so keep it short.

    Args:
        session: Open transaction; it is flushed, not committed.
        model: The registered model's name.
        kind: A short word; `routing` belongs to `write_routing`.
        actor: Who.
        reason: Why.
        at: When.
        before: What was, in a few words, or None.
        after: What is since, or None.
        evidence: Plain JSON.
        version: Which version it is about, if any.
        digest: Of that version's artifact, where known.

    Raises:
        Refused: the kind is none, or a routing's.
    """
    if not kind or len(kind) > LONGEST_KIND or kind == ROUTING:
        raise Refused(
            f"A line of kind '{kind}' cannot be noted in the ledger of '{model}'.",
            remedy="Give a short word; a routing is written by `write_routing`.",
        )
    head = hold(session, model)
    return append(
        session,
        model,
        head,
        kind,
        generation=head.generation,
        version=version,
        digest=digest,
        at=at,
        actor=actor,
        reason=reason,
        before=before,
        after=after,
        evidence=evidence or {},
    )


def hold(session: Session, model: str) -> Head:
    """Hold the end of a model's chain until the transaction ends, and say where it is.

    Who writes incidents in the same transaction holds this first. On SQLite every writing
    transaction holds the whole database already.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(CHAINS, func.hashtext(model))))
    return head_of(session, model)


def head_of(session: Session, model: str) -> Head:
    """Where a model's ledger ends now."""
    query = (
        select(LedgerRow.line, LedgerRow.hash, LedgerRow.generation)
        .where(LedgerRow.model == model)
        .order_by(LedgerRow.line.desc())
        .limit(1)
    )
    row = session.execute(query).one_or_none()
    return Head() if row is None else Head(*row)


def append(
    session: Session,
    model: str,
    head: Head,
    kind: str,
    *,
    generation: int,
    version: int | None,
    digest: str,
    at: datetime,
    actor: str,
    reason: str,
    before: str | None,
    after: str | None,
    evidence: Mapping[str, Any],
) -> Line:
    """Append a line behind a head that is held; what `record` and `write_routing` share."""
    values: dict[str, Any] = {
        "model": model,
        "line": head.line + 1,
        "kind": kind,
        "generation": generation,
        "version": version,
        "digest": digest,
        "at": spell(at),
        "actor": storable(actor),
        "reason": storable(reason),
        "before": None if before is None else storable(before),
        "after": None if after is None else storable(after),
        "evidence": canonical(evidence),
        "previous_hash": head.hash,
    }
    values["hash"] = digest_of(values)
    session.execute(insert(LedgerRow).values(values | {"at": at}))
    return _line(values | {"at": at})


def lines_of(session: Session, model: str, after: int = 0, limit: int | None = None) -> list[Line]:
    """The lines of a model's ledger behind a number, oldest first.

    Raises:
        LedgerBroken: one of them cannot be read.
    """
    query = columns_of(LedgerRow).where(LedgerRow.model == model, LedgerRow.line > after)
    try:
        rows = session.execute(query.order_by(LedgerRow.line).limit(limit)).mappings()
        return [_line(row) for row in rows]
    except ValueError as error:
        raise LedgerBroken(
            f"A line of the ledger of '{model}' cannot be read: {error}.",
            remedy=f"Run `homeostat ledger verify {model}`: it says which.",
            model=model,
        ) from error


def models_of(session: Session) -> list[str]:
    """The models that have a ledger."""
    return list(session.scalars(select(LedgerRow.model).distinct().order_by(LedgerRow.model)))


def digest_of(line: Mapping[Any, Any]) -> str:
    """The hash that a line as it is stored has to have."""
    content = {name: line[name] for name in HASHED}
    return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


def _line(row: Mapping[Any, Any]) -> Line:
    values = {name: row[name] for name in FIELDS}
    return Line(**values | {"evidence": json.loads(row["evidence"])})


FIELDS = tuple(Line.__dataclass_fields__)
HASHED = tuple(name for name in FIELDS if name != "hash")
