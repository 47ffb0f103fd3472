"""Which version answered at a moment, in which role, with which share, on whose word.

Two things are told apart. The *routing in force* is the newest one whose line in the ledger is not
later than the moment: what was wanted. A gateway takes it up a moment after it was written, and
until then answers by the one before. The prediction log knows that to the microsecond, so such a
routing is told as well, as the *hand-over* that it was. So for every logged prediction the answer
holds the routing that it was answered by.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, union
from sqlalchemy.orm import Session

from homeostat.errors import NothingServed
from registry.ledger import ROUTING
from registry.release_history import ROLES, Role
from registry.routing import Routing, routing_of_line
from registry.statements import columns_of
from registry.tables import LedgerRow
from registry.traffic import generations_at


@dataclass(frozen=True)
class Served:
    """One version's part at a moment.

    Args:
        version: Its number.
        role: `champion`, `challenger` or `standby`.
        share: Of the traffic that it was to answer, in [0, 1]; 0: it answered unseen, or not.
        digest: Of its artifact; empty where nobody told it.
        generation: Of the routing that says so.
        since: When that routing was written.
        actor: Who wrote it.
        reason: Why.
        in_force: False for a routing before or after the one in force, by which some gateway
            still (or already) answered: a hand-over.
    """

    version: int
    role: Role
    share: float
    digest: str
    generation: int
    since: datetime
    actor: str
    reason: str
    in_force: bool


def served_at(session: Session, model: str, moment: datetime) -> list[Served]:
    """What answered at a moment: the routing in force first, then hand-overs, newest first.

    One query, over indexes alone.

    Raises:
        NothingServed: nothing served then.
    """
    routings = routings_at(session, model, moment)
    if not routings:
        raise NothingServed(
            f"Nothing served '{model}' at {moment.isoformat()}: its first routing came later, if"
            " it has any.",
            remedy=f"See `homeostat history {model}`.",
            model=model,
        )
    return [
        one
        for routing in routings
        for one in parts_of_routing(
            routing, in_force=routing is routings[0] and routing.at <= moment
        )
    ]


def routings_at(session: Session, model: str, moment: datetime) -> list[Routing]:
    """The routing in force at a moment, then those that some gateway answered by, newest first."""
    ours = (LedgerRow.model == model, LedgerRow.kind == ROUTING)
    wanted = (
        select(LedgerRow.generation)
        .where(*ours, LedgerRow.at <= moment)
        .order_by(LedgerRow.at.desc(), LedgerRow.line.desc())
        .limit(1)
        .subquery()
    )
    named = union(select(wanted.c.generation), generations_at(model, moment))
    query = (
        columns_of(LedgerRow)
        .where(*ours, LedgerRow.generation.in_(named))
        .order_by((LedgerRow.at <= moment).desc(), LedgerRow.generation.desc())
    )
    return [routing_of_line(line) for line in session.execute(query).mappings()]


def parts_of_routing(routing: Routing, *, in_force: bool) -> list[Served]:
    """The part of every version of a routing, the champion's first."""
    given = routing.canary_share if routing.phase == "canary" else 0.0
    shares: dict[Role, float] = {"champion": 1.0 - given, "challenger": given, "standby": 0.0}
    return [
        Served(
            version=version,
            role=role,
            share=shares[role],
            digest=routing.digests.get(version, ""),
            generation=routing.generation,
            since=routing.at,
            actor=routing.actor,
            reason=routing.reason,
            in_force=in_force,
        )
        for role in ROLES
        if (version := getattr(routing, role)) is not None
    ]
