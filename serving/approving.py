"""A person's approval of a version, taken over HTTP."""

from __future__ import annotations

from typing import Any

from registry.approvals import Approval, approve, fingerprint, waiting
from serving.gateway import Gateway
from serving.requests import ApprovalBody


def approve_version(gateway: Gateway, model: str, body: ApprovalBody) -> dict[str, Any]:
    """Approve the verdict that stands on a version; what it waits for then, if anything.

    Raises:
        UnknownModel: there is no such model.
        UnknownVersion: MLflow has no such version.
        GateRefused: there is no verdict to approve.
        Unavailable: MLflow or the database is away.
    """
    parts = gateway.parts
    needed = parts.policy(model).gates.approvals
    digest = gateway.digest(model, body.version)
    with parts.writing() as session:
        given = approve(
            session,
            model,
            body.version,
            digest,
            person=body.person,
            token=fingerprint(gateway.settings.secret_token()),
            reason=body.reason,
            now=parts.clock(),
            seen=body.seen,
        )
    parts.wake.set()  # an alias that was held may pass now
    return {
        "model": model,
        "version": body.version,
        "digest": digest,
        "verdict": given[0].verdict,
        "needed": needed,
        "approvals": [show(each) for each in given],
        "waits": waiting([each.person for each in given], needed),
    }


def show(approval: Approval) -> dict[str, Any]:
    """One approval as plain JSON."""
    return {
        "person": approval.person,
        "reason": approval.reason,
        "at": approval.at.isoformat(),
        "token": approval.token,
    }
