"""The ledger of routings: which version answers which share, since when, by whom and why.

A routing is immutable and numbered. Writing one is a compare-and-swap on its number, so of two
controllers only one wins. Each line carries the hash of the line before it, so that a line that
was changed, taken out or put in shows. Releases (a version's time in one role) are kept in the
same transaction.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import RowMapping, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from homeostat.errors import Refused, StaleGeneration
from registry.json_text import canonical
from registry.release_history import ROLES, Release, Role, move_releases, releases
from registry.statements import columns_of, insert_new
from registry.tables import ReleaseRow, RoutingRow

__all__ = [
    "LedgerReport",
    "Phase",
    "Release",
    "Role",
    "Routing",
    "current_routing",
    "releases",
    "routing_history",
    "served_at",
    "verify_ledger",
    "write_routing",
]

Phase = Literal["steady", "shadow", "canary"]
FIRST_HASH = "0" * 64  # what the first line of a model's ledger follows
HASHED = (
    "model",
    "generation",
    "champion",
    "challenger",
    "standby",
    "phase",
    "canary_share",
    "actor",
    "reason",
    "evidence",
    "previous_hash",
)


@dataclass(frozen=True)
class Routing:
    """The desired split of traffic.

    Args:
        model: The registered model's name.
        generation: Its number; the first is 1.
        champion: The version that answers all traffic not given away.
        challenger: The version on trial, or None.
        standby: The last champion, kept warm, or None.
        phase: `steady` (no trial), `shadow` (the challenger answers unseen) or `canary`.
        canary_share: The challenger's share of the traffic in a canary, in [0, 1].
        at: Since when.
        actor: Who moved it.
        reason: Why, in a sentence.
        evidence: The figures behind it, as JSON.
        hash: SHA-256 over all of this and the hash of the line before.
    """

    model: str
    generation: int
    champion: int
    challenger: int | None
    standby: int | None
    phase: Phase
    canary_share: float
    at: datetime
    actor: str
    reason: str
    evidence: dict[str, Any]
    hash: str

    def role_of(self, version: int) -> Role | None:
        """The role that a version has here, or None."""
        return next((role for role in ROLES if getattr(self, role) == version), None)


@dataclass(frozen=True)
class LedgerReport:
    """Whether a model's ledger is whole: `broken` is the first bad generation, if any."""

    model: str
    lines: int
    intact: bool
    broken: int | None = None
    reason: str = ""


def current_routing(session: Session, model: str) -> Routing | None:
    """The routing with the highest number, or None before the first."""
    row = _current(session, model)
    return None if row is None else _routing(row)


def write_routing(
    session: Session,
    model: str,
    expected: int,
    *,
    champion: int,
    challenger: int | None,
    standby: int | None,
    phase: Phase,
    canary_share: float,
    actor: str,
    reason: str,
    evidence: Mapping[str, Any],
    at: datetime,
    digests: Mapping[int, str] | None = None,
) -> Routing:
    """Append generation `expected + 1`; the releases follow in the same transaction.

    Args:
        session: Open transaction; it is flushed, not committed.
        model: The registered model's name.
        expected: The generation that the caller decided on; 0 for the first routing.
        champion: See `Routing`, here and below.
        challenger: Needed in a shadow or canary phase.
        standby: Never the champion itself.
        phase: Of the rollout.
        canary_share: In [0, 1]; counts in a canary only.
        actor: Who moves it.
        reason: Why.
        evidence: Plain JSON.
        at: When; a moment before the present routing's counts as that one, so that no two
            releases of a role overlap when a clock went back.
        digests: Of the versions, for their releases; the verdict's digest where not given.

    Raises:
        StaleGeneration: somebody else wrote that number first; `winner` says who.
        Refused: the roles contradict one another.
    """
    _check(champion, challenger, standby, phase, canary_share)
    before = _current(session, model)
    if (before.generation if before else 0) != expected:
        raise _stale(model, expected, before)
    values = {
        "model": model,
        "generation": expected + 1,
        "champion": champion,
        "challenger": challenger,
        "standby": standby,
        "phase": phase,
        "canary_share": float(canary_share),
        "at": max(at, before.at) if before else at,
        "actor": actor,
        "reason": reason,
        "evidence": canonical(evidence),
        "previous_hash": before.hash if before else FIRST_HASH,
    }
    values["hash"] = _digest(values)
    statement = insert_new(session, RoutingRow, RoutingRow.model, RoutingRow.generation)
    won = session.scalar(statement.values(values).returning(RoutingRow.generation))
    if won is None:  # PostgreSQL: another transaction took the number after we looked
        raise _stale(model, expected, _current(session, model))
    written = _current(session, model)
    assert written is not None
    routing = _routing(written)
    roles = {role: getattr(routing, role) for role in ROLES}
    move_releases(session, model, routing.generation, roles, routing.at, actor, reason, digests)
    return routing


def routing_history(session: Session, model: str) -> list[Routing]:
    """Every routing of a model, oldest first."""
    query = columns_of(RoutingRow).where(RoutingRow.model == model)
    lines = session.execute(query.order_by(RoutingRow.generation)).mappings()
    return [_routing(line) for line in lines]


def served_at(session: Session, model: str, moment: datetime) -> Routing | None:
    """The routing that held at a moment, or None before the first."""
    query = (
        columns_of(RoutingRow)
        .where(RoutingRow.model == model, RoutingRow.at <= moment)
        .order_by(RoutingRow.generation.desc())
        .limit(1)
    )
    line = session.execute(query).mappings().one_or_none()
    return None if line is None else _routing(line)


def verify_ledger(session: Session, model: str) -> LedgerReport:
    """Read a model's ledger from its first line and check every number and hash.

    A line that was changed, taken out of the middle or put in is found. Lines cut off the end
    are found where a release still names their generation.
    """
    query = columns_of(RoutingRow).where(RoutingRow.model == model).order_by(RoutingRow.generation)
    previous, lines = FIRST_HASH, 0
    try:
        # One line at a time: of many read at once it would not show which cannot be read.
        for line in session.execute(query, execution_options={"yield_per": 1}).mappings():
            number = lines + 1
            if line["generation"] != number:
                return LedgerReport(model, lines, False, number, "The line is missing.")
            if line["previous_hash"] != previous:
                return LedgerReport(model, lines, False, number, "It follows another line.")
            if line["hash"] != _digest(line):
                return LedgerReport(model, lines, False, number, "Its content was changed.")
            previous, lines = line["hash"], number
    except (ValueError, TypeError, UnicodeError, DBAPIError) as error:
        return LedgerReport(model, lines, False, lines + 1, f"It cannot be read: {error}.")
    newest = session.scalar(
        select(func.max(ReleaseRow.generation)).where(ReleaseRow.model == model)
    )
    if (newest or 0) > lines:
        return LedgerReport(model, lines, False, lines + 1, "A release names it; it is missing.")
    return LedgerReport(model, lines, True)


def _current(session: Session, model: str) -> RowMapping | None:
    query = (
        columns_of(RoutingRow)
        .where(RoutingRow.model == model)
        .order_by(RoutingRow.generation.desc())
        .limit(1)
    )
    return session.execute(query).mappings().one_or_none()


def _routing(row: Mapping[Any, Any]) -> Routing:
    names = Routing.__dataclass_fields__
    values = {name: row[name] for name in names}
    return Routing(**values | {"evidence": json.loads(row["evidence"])})


def _digest(line: Mapping[Any, Any]) -> str:
    """SHA-256 of a line: every column but its key and its own hash."""
    content = {name: line[name] for name in HASHED}
    content["at"] = line["at"].astimezone(UTC).isoformat(timespec="microseconds")
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def _stale(model: str, expected: int, winner: Mapping[Any, Any] | None) -> StaleGeneration:
    if winner is None:
        return StaleGeneration(
            f"'{model}' has no routing {expected} to follow: its ledger is empty.",
            remedy="Read the routing again.",
            generation=0,
            expected=expected,
            winner="",
        )
    return StaleGeneration(
        f"Routing {winner['generation']} of '{model}' was written by {winner['actor']}"
        f" ({winner['reason']}); you decided on {expected}.",
        remedy="Read the routing again and decide anew.",
        generation=winner["generation"],
        expected=expected,
        winner=winner["actor"],
    )


def _check(
    champion: int, challenger: int | None, standby: int | None, phase: str, share: float
) -> None:
    versions = [version for version in (champion, challenger, standby) if version is not None]
    if len(set(versions)) != len(versions):
        raise Refused(
            f"One version cannot have two roles: champion {champion}, challenger {challenger},"
            f" standby {standby}.",
            remedy="Give each role a version of its own.",
        )
    if phase != "steady" and challenger is None:
        raise Refused(f"A {phase} needs a challenger.", remedy="Name one, or stay steady.")
    if not 0.0 <= share <= 1.0:
        raise Refused(f"A canary's share is in [0, 1], not {share}.", remedy="Give such a share.")
