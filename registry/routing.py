"""Routings: which version answers which share, since when, by whom and why.

A routing is immutable and numbered, and is one line of the model's ledger. Writing one is a
compare-and-swap on its number, so of two controllers only one wins. Releases (a version's time in
one role) are kept in the same transaction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import RowMapping, Select
from sqlalchemy.orm import Session

from homeostat.errors import Refused, StaleGeneration
from registry.json_text import canonical
from registry.ledger import ROUTING, append, hold
from registry.release_history import (
    ROLES,
    Release,
    Role,
    known_digest,
    move_releases,
    releases,
)
from registry.statements import columns_of
from registry.tables import LedgerRow

__all__ = [
    "Phase",
    "Release",
    "Role",
    "Routing",
    "current_routing",
    "expect",
    "releases",
    "routing_before",
    "routing_history",
    "routing_of_line",
    "write_routing",
]

Phase = Literal["steady", "shadow", "canary"]
SPLIT = ("champion", "challenger", "standby", "phase", "canary_share")


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
        hash: Of its line in the ledger.
        digests: Of its versions' artifacts, where known.
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
    digests: dict[int, str] = field(default_factory=dict)

    def role_of(self, version: int) -> Role | None:
        """The role that a version has here, or None."""
        return next((role for role in ROLES if getattr(self, role) == version), None)


def current_routing(session: Session, model: str) -> Routing | None:
    """The routing with the highest number, or None before the first."""
    row = _current(session, model)
    return None if row is None else routing_of_line(row)


def expect(session: Session, model: str, generation: int) -> None:
    """Refuse to go on where the present routing has another number than a caller decided on.

    Raises:
        StaleGeneration: somebody else moved it; `winner` says who.
    """
    present = _current(session, model)
    if (present["generation"] if present else 0) != generation:
        raise _stale(model, generation, present)


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
        digests: Of the versions; where not given, as in the routing before or the verdict.

    Raises:
        StaleGeneration: somebody else wrote that number first; `winner` says who.
        Refused: the roles contradict one another.
    """
    _check(champion, challenger, standby, phase, canary_share)
    head = hold(session, model)
    before = _current(session, model)
    if head.generation != expected:
        raise _stale(model, expected, before)
    roles: dict[Role, int | None] = {
        "champion": champion,
        "challenger": challenger,
        "standby": standby,
    }
    known = dict(digests or {})
    if before is not None:
        known = routing_of_line(before).digests | known
    for version in roles.values():
        if version is not None and not known.get(version):
            known[version] = known_digest(session, model, version)
    held = {str(one): known[one] for one in roles.values() if one is not None and known[one]}
    split = roles | {"phase": phase, "canary_share": float(canary_share), "digests": held}
    line = append(
        session,
        model,
        head,
        ROUTING,
        generation=expected + 1,
        version=champion,
        digest=known[champion],
        at=max(at, before["at"]) if before else at,
        actor=actor,
        reason=reason,
        before=before["after"] if before else None,
        after=canonical(split),
        evidence=evidence,
    )
    move_releases(session, model, line.generation, roles, line.at, line.actor, line.reason, known)
    return routing_of_line(vars(line) | {"evidence": canonical(evidence)})


def routing_history(
    session: Session, model: str, *, limit: int | None = None, before: int | None = None
) -> list[Routing]:
    """The routings of a model, oldest first.

    Args:
        session: Open transaction.
        model: The registered model's name.
        limit: At most so many, the newest; None: every one.
        before: Only those with a generation below this.
    """
    query = _routings(model).order_by(LedgerRow.generation.desc()).limit(limit)
    if before is not None:
        query = query.where(LedgerRow.generation < before)
    found = [routing_of_line(line) for line in session.execute(query).mappings()]
    return found[::-1]


def routing_before(session: Session, routing: Routing) -> Routing | None:
    """The routing that a routing followed, or None where it is the first."""
    query = _routings(routing.model).where(LedgerRow.generation == routing.generation - 1)
    line = session.execute(query).mappings().one_or_none()
    return None if line is None else routing_of_line(line)


def routing_of_line(line: Mapping[Any, Any]) -> Routing:
    """The routing that a line of the ledger is."""
    split = json.loads(line["after"])
    return Routing(
        model=line["model"],
        generation=line["generation"],
        **{name: split[name] for name in SPLIT},
        at=line["at"],
        actor=line["actor"],
        reason=line["reason"],
        evidence=json.loads(line["evidence"]),
        hash=line["hash"],
        digests={int(version): digest for version, digest in split["digests"].items()},
    )


def _routings(model: str) -> Select[*tuple[Any, ...]]:
    return columns_of(LedgerRow).where(LedgerRow.model == model, LedgerRow.kind == ROUTING)


def _current(session: Session, model: str) -> RowMapping | None:
    query = _routings(model).order_by(LedgerRow.generation.desc()).limit(1)
    return session.execute(query).mappings().one_or_none()


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
