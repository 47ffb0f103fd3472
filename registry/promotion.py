"""Promotion and rollback: the domain's decisions, each one transaction of the caller.

Nothing here moves an alias: the routing is written first, the aliases follow it after the
commit (`MlflowVersions.follow`), and are verified by reading them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from sqlalchemy.orm import Session

from homeostat.errors import GateRefused, NoTarget
from homeostat.policy import Policy
from registry.approvals import approvals_of, waiting
from registry.permits import (
    Override,
    Quarantined,
    active_override,
    active_overrides,
    grant_override,
    quarantine,
    quarantined,
    release_quarantine,
)
from registry.release_history import find_release
from registry.routing import Routing, current_routing, expect, write_routing
from registry.verdicts import Verdict, verdict_for

__all__ = [
    "Decision",
    "Digests",
    "Override",
    "Quarantined",
    "active_override",
    "active_overrides",
    "decide",
    "decide_alias_move",
    "grant_override",
    "promote",
    "quarantine",
    "quarantined",
    "release_quarantine",
    "request_promotion",
    "rollback",
    "wanted_aliases",
]


@dataclass(frozen=True)
class Decision:
    """What becomes of a request to make a version champion or challenger.

    Args:
        action: `accept`, or `restore`: leave the traffic and put the alias back.
        reason: Why, for the person who asked.
        warn: Accepted without a passing verdict: open a ticket.
    """

    action: Literal["accept", "restore"]
    reason: str
    warn: bool = False


def decide_alias_move(
    policy: Policy,
    verdict: Verdict | None,
    override: Override | None,
    quarantined: Quarantined | None,
    digest: str | None = None,
    approved_by: Sequence[str] = (),
) -> Decision:
    """Answer a request to give a version traffic.

    Args:
        policy: Its `alias_moves`: `enforce`, `warn` or `override`.
        verdict: On the version, or None where it was never judged.
        override: In force now, or None.
        quarantined: Of the version's digest; neither verdict nor override lifts it.
        digest: What the version's artifact is now: a verdict on another one does not count.
        approved_by: People who approved exactly this verdict; the policy says how many it takes.
    """
    if quarantined is not None:
        return Decision("restore", f"Its artifact is in quarantine: {quarantined.reason}")
    fault = _fault(policy, verdict, digest, approved_by)
    if verdict is not None and not fault:
        return Decision("accept", verdict.reason)
    if override is not None:
        leave = f"{override.actor} allows it until {override.expires_at:%Y-%m-%d %H:%M} UTC"
        return Decision("accept", f"{fault} {leave}: {override.reason}", warn=True)
    if policy.alias_moves == "enforce":
        return Decision("restore", fault)
    return Decision("accept", f"{fault} The policy lets it pass.", policy.alias_moves == "warn")


def decide(
    session: Session, policy: Policy, model: str, version: int, digest: str, now: datetime
) -> Decision:
    """`decide_alias_move` with what the database knows of the version."""
    verdict = verdict_for(session, model, version)
    approvals = approvals_of(session, model, version, verdict) if verdict is not None else []
    return decide_alias_move(
        policy,
        verdict,
        active_override(session, model, version, now),
        quarantined(session, model, digest) if digest else None,
        digest or None,
        [each.person for each in approvals],
    )


def _fault(
    policy: Policy, verdict: Verdict | None, digest: str | None, approved_by: Sequence[str]
) -> str:
    """What keeps a version from traffic but for an override; empty: nothing does."""
    if verdict is None:
        return "No gate has judged it."
    if digest is not None and verdict.digest != digest:
        return "Its verdict is on another artifact."
    if not verdict.passed:
        return verdict.reason
    return waiting(approved_by, policy.gates.approvals)


class Digests(Protocol):
    """What `request_promotion` asks of the versions' store."""

    def digest(self, model: str, version: int) -> str:
        """The digest that a version was registered with."""
        ...


def request_promotion(
    session: Session,
    versions: Digests,
    policy: Policy,
    model: str,
    version: int,
    actor: str,
    reason: str,
    now: datetime,
) -> Routing:
    """Make a version champion at once, if gates, overrides and quarantine allow it.

    Args:
        session: Not yet used, so that no lock is held while MLflow is asked.
        versions: Where the version is registered: `MlflowVersions`.
        policy: The model's.
        model: The registered model's name.
        version: The one to promote.
        actor: Who asks.
        reason: Why.
        now: When.

    Raises:
        UnknownVersion: there is no such version.
        ArtifactError: it was registered without a digest.
        GateRefused: gates, quarantine or policy forbid it; the message says why.
        StaleGeneration: somebody moved the routing in the same moment.
        Unavailable: MLflow is away.
    """
    digest = versions.digest(model, version)
    decision = decide(session, policy, model, version, digest, now)
    if decision.action == "restore":
        raise GateRefused(
            f"Version {version} of '{model}' may not take traffic. {decision.reason}",
            remedy="Mend the version, or grant an override with a reason and an expiry.",
            model=model,
            version=version,
        )
    evidence = {"decision": decision.reason}
    return promote(
        session,
        model,
        version,
        actor=actor,
        reason=reason,
        evidence=evidence,
        now=now,
        digest=digest,
    )


def promote(
    session: Session,
    model: str,
    version: int,
    *,
    actor: str,
    reason: str,
    evidence: Mapping[str, Any],
    now: datetime,
    digest: str = "",
    expected: int | None = None,
) -> Routing:
    """Make a version champion; the champion becomes standby, a trial under way ends.

    Args:
        session: Open transaction.
        model: The registered model's name.
        version: The new champion. Where it is champion already, nothing changes.
        actor: Who does it.
        reason: Why.
        evidence: Plain JSON.
        now: When.
        digest: Of the version, for its release.
        expected: The generation that was decided on; the present one where not given.

    Raises:
        StaleGeneration: somebody moved the routing first.
    """
    present = current_routing(session, model)
    if present is not None and present.champion == version:
        return present
    return write_routing(
        session,
        model,
        (present.generation if present else 0) if expected is None else expected,
        champion=version,
        challenger=None,
        standby=present.champion if present else None,
        phase="steady",
        canary_share=0.0,
        actor=actor,
        reason=reason,
        evidence=evidence,
        at=now,
        digests={version: digest} if digest else None,
    )


def rollback(
    session: Session,
    model: str,
    actor: str,
    reason: str,
    evidence: Mapping[str, Any],
    now: datetime,
    expected: int | None = None,
    *,
    target: int | None = None,
    digest: str = "",
) -> Routing:
    """Give the traffic back to the standby, or to another version that has good evidence.

    What was rolled back from is not kept as standby (nothing may go back to it), and a trial
    under way ends: it was measured against a champion that is gone.

    Args:
        session: Open transaction.
        model: The registered model's name.
        actor: Who does it.
        reason: Why.
        evidence: Plain JSON.
        now: When.
        expected: The generation that was decided on; the present one where not given.
        target: The version that is to answer; None: the standby.
        digest: Of the target.

    Raises:
        NoTarget: there is no standby, or its artifact (the target's) is in quarantine.
        StaleGeneration: somebody moved the routing first.
    """
    if expected is not None:
        expect(session, model, expected)  # who came late learns who won, not that nothing is left
    present = current_routing(session, model)
    back = target if target is not None or present is None else present.standby
    if present is None or back is None:
        raise NoTarget(
            f"'{model}' has no standby to roll back to.",
            remedy="Promote a good version.",
            model=model,
        )
    release = find_release(session, model, back)
    known = digest or (release.digest if release else "")
    barred = quarantined(session, model, known) if known else None
    if barred is not None:
        what = "standby" if target is None else "version"
        raise NoTarget(
            f"The {what} {back} of '{model}' is in quarantine: {barred.reason}",
            remedy="Promote a good version.",
            model=model,
        )
    return write_routing(
        session,
        model,
        present.generation if expected is None else expected,
        champion=back,
        challenger=None,
        standby=None,
        phase="steady",
        canary_share=0.0,
        actor=actor,
        reason=reason,
        evidence=evidence,
        at=now,
        digests={back: digest} if digest else None,
    )


def wanted_aliases(routing: Routing) -> dict[str, int | None]:
    """What the aliases in MLflow are to be under a routing; None: there is to be none."""
    return {
        "champion": routing.champion,
        "challenger": routing.challenger,
        "standby": routing.standby,
    }
