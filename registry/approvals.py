"""Approvals: people's word for a version, each given on one verdict.

An approval names the verdict that its giver saw, by its hash. A new verdict, or one on another
artifact, has none: approvals of the old one count no more. The same person counts once.

Who a person is, is who holds the token that they came with. Only the administrator's token can say
any name; which token it was is kept beside the name, so what a name is worth can be told later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from homeostat.errors import GateRefused, Refused
from registry.ledger import record
from registry.statements import insert_new
from registry.tables import ApprovalRow
from registry.verdicts import Verdict, verdict_for

MAX_PERSON = 255  # characters of a name


@dataclass(frozen=True)
class Approval:
    """One person's word for a version.

    Args:
        model: The registered model's name.
        version: Its number.
        digest: Of the artifact.
        verdict: Hash of the verdict that the person saw.
        person: The token's holder; with the administrator's token whom they named.
        token: The key of the token that they came with; of the administrator's a fingerprint.
        reason: Why.
        at: When.
    """

    model: str
    version: int
    digest: str
    verdict: str
    person: str
    token: str
    reason: str
    at: datetime


def fingerprint(token: str) -> str:
    """What tells one token from another and gives neither away."""
    return hashlib.sha256(b"homeostat token " + token.encode()).hexdigest()[:12]


def approve(
    session: Session,
    model: str,
    version: int,
    digest: str,
    *,
    person: str,
    token: str,
    reason: str,
    now: datetime,
    seen: str = "",
) -> list[Approval]:
    """Approve the verdict that stands on a version; twice by one person is once.

    Args:
        session: Open transaction.
        model: The registered model's name.
        version: Which one.
        digest: Of its artifact as registered.
        person: Who approves, as they say; at most 255 characters.
        token: `fingerprint` of the token that they came with.
        reason: Why.
        now: When.
        seen: How the hash of the verdict that the person saw begins; empty: the one that stands.

    Returns:
        Every approval of that verdict, oldest first.

    Raises:
        Refused: no name or no reason.
        GateRefused: no verdict, one on another artifact, one that did not pass, or another than
            the one that was seen.
    """
    person = " ".join(person.split())
    if not person or len(person) > MAX_PERSON or not reason.strip():
        raise Refused(
            "An approval needs a name and a reason.",
            remedy="Say who you are, and why in a sentence.",
        )
    verdict = verdict_for(session, model, version)
    if fault := _fault(verdict, digest, seen):
        raise GateRefused(
            f"Version {version} of '{model}' cannot be approved. {fault}",
            remedy="Look at `homeostat verdict`; a refused version needs an override instead.",
            model=model,
            version=version,
        )
    assert verdict is not None
    before = approvals_of(session, model, version, verdict)
    if any(each.person == person for each in before):
        return before
    statement = insert_new(session, ApprovalRow).values(
        model=model,
        version=version,
        digest=verdict.digest,
        verdict=verdict.hash,
        person=person,
        token=token,
        reason=reason,
        at=now,
    )
    session.execute(statement)
    after = approvals_of(session, model, version, verdict)
    record(
        session,
        model,
        "approval",
        actor=person,
        reason=reason,
        at=now,
        before=str(len(before)),
        after=str(len(after)),
        evidence={"verdict": verdict.hash, "passed": verdict.passed, "token": token},
        version=version,
        digest=verdict.digest,
    )
    return after


def approvals_of(session: Session, model: str, version: int, verdict: Verdict) -> list[Approval]:
    """Every approval of exactly this verdict on a version, oldest first."""
    query = (
        select(ApprovalRow)
        .where(
            ApprovalRow.model == model,
            ApprovalRow.version == version,
            ApprovalRow.verdict == verdict.hash,
        )
        .order_by(ApprovalRow.id)
    )
    return [
        Approval(
            row.model,
            row.version,
            row.digest,
            row.verdict,
            row.person,
            row.token,
            row.reason,
            row.at,
        )
        for row in session.scalars(query)
    ]


def waiting(approved_by: Sequence[str], needed: int) -> str:
    """What a version still waits for; empty where enough people approved it.

    Args:
        approved_by: Names of those who did.
        needed: How many the policy asks for.
    """
    given = sorted(set(approved_by))
    missing = needed - len(given)
    if missing <= 0:
        return ""
    people = f"{missing} more {'person' if missing == 1 else 'people'}"
    so_far = f" (approved by {', '.join(given)})" if given else ""
    return f"{len(given)} of {needed} approvals: waits for {people}{so_far}."


def _fault(verdict: Verdict | None, digest: str, seen: str) -> str:
    if verdict is None:
        return "No gate has judged it."
    if verdict.digest != digest:
        return "Its verdict is on another artifact."
    if not verdict.hash.startswith(seen):
        return "It was judged again since you looked: that is another verdict."
    return "" if verdict.passed else f"Its gates refused it. {verdict.reason}"
