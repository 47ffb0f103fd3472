"""Alias moves in the ledger: what was seen in MLflow, move by move, and who made it.

MLflow keeps no history of its aliases, so the ledger is also the memory of where each one was
last seen: what differs from that is a move, whoever was asleep meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from registry.ledger import hold, record
from registry.tables import LedgerRow

ALIAS = "alias"  # the kind of these lines


@dataclass(frozen=True)
class AliasMove:
    """An alias that is not where it was: versions before and after, None where there was none."""

    alias: str
    before: int | None
    after: int | None


def alias_moves(known: Mapping[str, int], seen: Mapping[str, int]) -> list[AliasMove]:
    """What differs between two looks at a model's aliases, by name."""
    moves = [AliasMove(one, known.get(one), seen.get(one)) for one in sorted({*known, *seen})]
    return [move for move in moves if move.before != move.after]


def known_aliases(session: Session, model: str) -> dict[str, int]:
    """Every alias of a model where the ledger saw it last; empty before the first look."""
    newest = (
        select(LedgerRow.evidence)
        .where(LedgerRow.model == model, LedgerRow.kind == ALIAS)
        .order_by(LedgerRow.line.desc())
        .limit(1)
    )
    found = session.scalar(newest)
    return {} if found is None else dict(json.loads(found)["aliases"])


def note_aliases(
    session: Session,
    model: str,
    seen: Mapping[str, int],
    *,
    actor: str,
    reason: str,
    at: datetime,
) -> list[AliasMove]:
    """Write a line for each alias that is not where the ledger saw it last.

    Args:
        session: Open transaction; it is flushed, not committed.
        model: The registered model's name.
        seen: Every alias of it as MLflow answers.
        actor: Who moved them.
        reason: Why.
        at: When that was seen.

    Returns:
        The moves, in the order of their lines.
    """
    hold(session, model)
    known = known_aliases(session, model)
    moves = alias_moves(known, seen)
    for move in moves:
        known.pop(move.alias, None)
        if move.after is not None:
            known[move.alias] = move.after
        record(
            session,
            model,
            ALIAS,
            actor=actor,
            reason=reason,
            at=at,
            before=_spelt(move.alias, move.before),
            after=_spelt(move.alias, move.after),
            evidence={"aliases": known},
            version=move.before if move.after is None else move.after,
        )
    return moves


def note_made(
    session: Session,
    model: str,
    made: Mapping[str, int | None],
    *,
    actor: str,
    reason: str,
    at: datetime,
) -> list[AliasMove]:
    """Write down what was moved by whoever calls, as `note_aliases`; None: it was taken away."""
    hold(session, model)
    known = known_aliases(session, model) | dict(made)
    seen = {alias: version for alias, version in known.items() if version is not None}
    return note_aliases(session, model, seen, actor=actor, reason=reason, at=at)


def times_moved(
    session: Session, model: str, alias: str, version: int | None, actor: str, since: int
) -> int:
    """How often somebody moved an alias to a version since a generation of the routing.

    Args:
        session: Open transaction.
        model: The registered model's name.
        alias: Its name.
        version: Where to; None: how often it was taken away.
        actor: Who.
        since: The first generation that counts.
    """
    query = select(func.count()).where(
        LedgerRow.model == model,
        LedgerRow.kind == ALIAS,
        LedgerRow.generation >= since,
        LedgerRow.actor == actor,
    )
    if version is None:
        gone = LedgerRow.before.startswith(f"{alias}=", autoescape=True)
        query = query.where(LedgerRow.after.is_(None), gone)
    else:
        query = query.where(LedgerRow.after == _spelt(alias, version))
    return session.scalar(query) or 0


def last_mover(session: Session, model: str, alias: str) -> tuple[str, int] | None:
    """Who moved an alias last, and in which generation; None where it was never seen."""
    about = f"{alias}="
    query = (
        select(LedgerRow.actor, LedgerRow.generation)
        .where(LedgerRow.model == model, LedgerRow.kind == ALIAS)
        .where(
            or_(
                LedgerRow.before.startswith(about, autoescape=True),
                LedgerRow.after.startswith(about, autoescape=True),
            )
        )
        .order_by(LedgerRow.line.desc())
        .limit(1)
    )
    row = session.execute(query).one_or_none()
    return None if row is None else (row.actor, row.generation)


def _spelt(alias: str, version: int | None) -> str | None:
    return None if version is None else f"{alias}={version}"
