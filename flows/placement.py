"""Where a registered version goes: champion if it is the first, else on trial, else nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from flows.site import Site
from homeostat.errors import StaleGeneration
from homeostat.policy import Policy
from registry.alias_moves import note_made
from registry.approvals import approvals_of, waiting
from registry.pauses import standing_pause
from registry.promotion import promote, rollback, wanted_aliases
from registry.routing import Routing, current_routing
from registry.verdicts import Verdict

Place = Literal["champion", "challenger", "candidate", "rejected"]

REASONS: Mapping[Place, str] = {
    "champion": "It is the first version: it answers all traffic.",
    "challenger": "It passed its gates: it earns its traffic in shadow, then in canary.",
    "candidate": "It passed its gates; the policy leaves the trial to a person.",
    "rejected": "A gate refused it.",
}

STATES: Mapping[Place, str] = {
    "champion": "serving",
    "challenger": "shadow",
    "candidate": "candidate",
    "rejected": "rejected",
}


def place(
    site: Site,
    policy: Policy,
    model: str,
    version: int,
    verdict: Verdict,
    *,
    actor: str,
    reason: str,
    now: datetime,
) -> Place:
    """Give a judged version its place; again changes nothing.

    The routing is written first and the alias follows it, so that a version that was killed
    between the two is found champion and only its alias is set.

    Args:
        site: Where.
        policy: Of the model: what may happen by itself.
        model: The registered model's name.
        version: Its number.
        verdict: Of the gates.
        actor: Who made it.
        reason: Why it was made, in a sentence.
        now: When.

    Raises:
        Unavailable: the database or MLflow is away.
    """
    with site.session() as session:
        routing = current_routing(session, model)
        pause = standing_pause(session, model, now)
        approvals = approvals_of(session, model, version, verdict)
    missing = waiting([each.person for each in approvals], policy.gates.approvals)
    if not missing and pause is not None:
        missing = f"{pause.actor} has paused automation: {pause.reason}"
    where = decide_place(policy, version, verdict, routing, missing)
    if where == "champion" and routing is None:
        where = _first_champion(site, policy, model, version, verdict, actor, reason, now)
    if where in ("champion", "challenger"):
        site.versions.set_alias(model, where, version)
        with site.session() as session:
            made: dict[str, int | None] = {where: version}
            note_made(session, model, made, actor=actor, reason=REASONS[where], at=now)
    why = verdict.reason if where == "rejected" else REASONS[where]
    if where == "candidate" and missing:
        why = f"It passed its gates. {missing}"
    site.versions.tag(model, version, lifecycle_tags(STATES[where], why, now))
    return where


def decide_place(
    policy: Policy, version: int, verdict: Verdict, routing: Routing | None, missing: str = ""
) -> Place:
    """The place that a version's verdict, the policy and the present routing give it.

    `missing` says what else it waits for, approvals or the end of a pause; empty: nothing.
    """
    if routing is not None and routing.champion == version:
        return "champion"
    if not verdict.passed:
        return "rejected"
    if missing:
        return "candidate"
    if routing is None:
        return "champion"
    return "challenger" if policy.mode == "act" else "candidate"


def give_back(
    site: Site, model: str, actor: str, reason: str, now: datetime
) -> tuple[int, Routing]:
    """Give the traffic back to the standby.

    Returns:
        The version that was taken out, and the new routing.

    Raises:
        NoTarget: there is no standby, or it is in quarantine.
        StaleGeneration: somebody moved the routing in the same moment.
    """
    with site.session() as session:
        before = current_routing(session, model)
        expected = before.generation if before else None
        after = rollback(session, model, actor, reason, {}, now, expected)
    assert before is not None  # else there was nothing to roll back
    return before.champion, after


def follow_rollback(site: Site, routing: Routing, withdrawn: int) -> None:
    """Let MLflow's aliases and tags follow a rollback.

    Raises:
        Unavailable: MLflow is away; the controller moves the aliases when it is back.
    """
    nobody: dict[str, int | None] = dict.fromkeys(("champion", "challenger", "standby"))
    made = nobody | wanted_aliases(routing)
    site.versions.follow(routing.model, made)
    with site.session() as session:
        note_made(
            session,
            routing.model,
            made,
            actor=routing.actor,
            reason=routing.reason,
            at=routing.at,
        )
    for version, state in ((withdrawn, "rolled_back"), (routing.champion, "serving")):
        site.versions.tag(routing.model, version, lifecycle_tags(state, routing.reason, routing.at))


def lifecycle_tags(state: str, reason: str, at: datetime) -> dict[str, str]:
    """What MLflow's page of a version says of its life."""
    return {
        "lifecycle.state": state,
        "lifecycle.reason": reason,
        "lifecycle.since": at.isoformat(),
    }


def _first_champion(
    site: Site,
    policy: Policy,
    model: str,
    version: int,
    verdict: Verdict,
    actor: str,
    reason: str,
    now: datetime,
) -> Place:
    evidence = {gate.name: gate.figure for gate in verdict.figures}
    try:
        with site.session() as session:
            promote(
                session,
                model,
                version,
                actor=actor,
                reason=reason,
                evidence=evidence,
                now=now,
                digest=verdict.digest,
                expected=0,
            )
    except StaleGeneration:  # another first version was quicker: this one earns its traffic
        with site.session() as session:
            return decide_place(policy, version, verdict, current_routing(session, model))
    return "champion"
