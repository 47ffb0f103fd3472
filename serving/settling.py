"""What a promotion answers of what is open, for its evidence: told once the answers show it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from homeostat.policy import Policy
from registry.claims import NEXT, RECOVERS, RESOLVES, UNDO, answered
from registry.recoveries import progress, retrains_that_learnt, standing_recovery
from registry.routing import current_routing
from serving.advice import recovery_step, rollback_command


def settles(
    session: Session, policy: Policy, model: str, version: int, now: datetime
) -> dict[str, Any]:
    """For the evidence of a promotion: a new champion answers what was open about the old one.

    But for a change that the version has learnt and is not known to be well on: that stays open.

    Args:
        session: Open transaction, before the promotion.
        policy: Of the model.
        model: The registered model's name.
        version: That is promoted.
        now: When.
    """
    undo = rollback_command(model) if current_routing(session, model) is not None else ""
    found: dict[str, Any] = {RESOLVES: answered(session, model), UNDO: undo}
    record = standing_recovery(session, model)
    if record is None or record.incident_id not in found[RESOLVES]:
        return found
    if version not in {one.version for one in retrains_that_learnt(session, record)}:
        return found
    recovery = progress(session, record, policy.monitor.tolerance_loss, now, version)
    if recovery is None:
        return found
    rest = [one for one in found[RESOLVES] if one != record.incident_id]
    step = recovery_step(policy, recovery)
    return found | {RESOLVES: rest, RECOVERS: [record.incident_id], NEXT: step}
