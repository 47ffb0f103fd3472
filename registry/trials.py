"""Trials as people steer them: begun, paused, going on; and how long each took without its pauses.

A trial is the release of a challenger. Who pauses it or lets it go on writes a line of the ledger,
and nothing else is kept, so whichever gateway holds the lease finds the same. A trial that is held
for want of a verdict at its deadline is paused by the rollout, and has its whole time again when
somebody lets it go on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from homeostat.errors import Refused
from registry.ledger import record
from registry.release_history import releases
from registry.routing import Routing, current_routing, expect
from registry.tables import LedgerRow

TRIAL = "trial"  # the kind of these lines
PAUSED, RUNNING = "paused", "running"
DEADLINE = "deadline"  # in the evidence of a pause that the rollout made


@dataclass(frozen=True)
class TrialRecord:
    """A trial under way.

    Args:
        version: The challenger.
        begun_at: When its time began to run.
        took: How long it ran since, without pauses.
        paused_at: Since when it stands still, or None.
        by: Who paused it.
        reason: Why.
    """

    version: int
    begun_at: datetime
    took: timedelta
    paused_at: datetime | None = None
    by: str = ""
    reason: str = ""


def trial_of(session: Session, routing: Routing, now: datetime) -> TrialRecord | None:
    """The trial under a routing, or None where it has none."""
    if routing.challenger is None:
        return None
    every = releases(session, routing.model)
    begun = [one for one in every if one.role == "challenger" and one.to_at is None]
    start, generation = (begun[-1].from_at, begun[-1].generation) if begun else (routing.at, 0)
    lines = session.execute(
        select(LedgerRow.at, LedgerRow.after, LedgerRow.actor, LedgerRow.reason, LedgerRow.evidence)
        .where(
            LedgerRow.model == routing.model,
            LedgerRow.kind == TRIAL,
            LedgerRow.version == routing.challenger,
            LedgerRow.generation >= generation,
        )
        .order_by(LedgerRow.line)
    ).all()
    stood, paused = timedelta(), None
    for line in lines:
        if line.after == PAUSED:
            paused = paused or line
        elif paused is not None:
            stood += line.at - paused.at
            if json.loads(paused.evidence).get(DEADLINE):
                start, stood = line.at, timedelta()
            paused = None
    until = paused.at if paused is not None else now
    took = max(until - start - stood, timedelta())
    if paused is None:
        return TrialRecord(routing.challenger, start, took)
    return TrialRecord(routing.challenger, start, took, paused.at, paused.actor, paused.reason)


def steer_trial(
    session: Session,
    model: str,
    state: str,
    actor: str,
    reason: str,
    now: datetime,
    *,
    expected: int | None = None,
    at_deadline: bool = False,
) -> Routing:
    """Pause a trial, or let it go on, with a line of the ledger.

    Args:
        session: Open transaction.
        model: The registered model's name.
        state: `paused` or `running`.
        actor: Who.
        reason: Why.
        now: When.
        expected: Only while this generation stands; None: whichever does.
        at_deadline: It is paused for want of a verdict.

    Returns:
        The routing, which stays.

    Raises:
        StaleGeneration: another generation than `expected` stands.
        Refused: there is no trial, or it is so already.
    """
    if expected is not None:
        expect(session, model, expected)
    routing = current_routing(session, model)
    trial = trial_of(session, routing, now) if routing is not None else None
    if routing is None or trial is None:
        raise no_trial(model)
    before = PAUSED if trial.paused_at is not None else RUNNING
    if before == state:
        by = f", by {trial.by}: {trial.reason}" if trial.by else ""
        raise Refused(
            f"The trial of version {trial.version} of '{model}' is {state} already{by}.",
            remedy="See `homeostat status`.",
            model=model,
        )
    record(
        session,
        model,
        TRIAL,
        actor=actor,
        reason=reason,
        at=now,
        before=before,
        after=state,
        evidence={DEADLINE: True} if at_deadline else {},
        version=trial.version,
        digest=routing.digests.get(trial.version, ""),
    )
    return routing


def no_trial(model: str) -> Refused:
    """The refusal of who steers a trial that is not there."""
    return Refused(
        f"No version of '{model}' is on trial.",
        remedy=f"Begin one: homeostat rollout start {model} VERSION --reason 'why'.",
        model=model,
    )
