"""A person's approval of a version, taken over HTTP."""

from __future__ import annotations

from typing import Any

import msgspec

from homeostat.errors import InvalidRequest
from registry.approvals import Approval, approve, fingerprint, waiting
from serving.access import Caller
from serving.gateway import Gateway
from serving.requests import ApprovalBody


def approve_version(
    gateway: Gateway, model: str, body: ApprovalBody, caller: Caller
) -> dict[str, Any]:
    """Approve the verdict that stands on a version; what it waits for then, if anything.

    The person is the token's holder; with the administrator's token it is whom the body names.

    Raises:
        InvalidRequest: the administrator's token, and no name.
        Forbidden: another name than the token's.
        UnknownModel: there is no such model.
        UnknownVersion: MLflow has no such version.
        GateRefused: there is no verdict to approve.
        Unavailable: MLflow or the database is away.
    """
    parts = gateway.parts
    person = caller.acts_as(caller.name if body.person is msgspec.UNSET else body.person)
    if caller.root and body.person is msgspec.UNSET:
        raise InvalidRequest(
            "The body has no `person`, and the administrator's token names nobody.",
            remedy="Say who approves, or use that person's own token.",
        )
    needed = parts.policy(model).gates.approvals
    digest = gateway.digest(model, body.version)
    with parts.writing() as session:
        given = approve(
            session,
            model,
            body.version,
            digest,
            person=person,
            token=caller.key or fingerprint(gateway.settings.secret_token()),
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
