"""One version: what its gates said, who approved that, and a person's own approval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec

from registry.approvals import Approval, approvals_of, waiting
from registry.permits import Quarantined, quarantined
from registry.release_history import Release, known_digest, releases
from registry.verdicts import Verdict, verdict_for
from serving.access import Caller
from serving.approving import approve_version
from serving.gateway import Gateway
from serving.page.doors import text_of
from serving.page.model import mlflow_page
from serving.requests import ApprovalBody

SEEN = 16  # digits of a verdict's hash that a form holds


@dataclass(frozen=True)
class VersionView:
    """A version as its gates and people judged it.

    Args:
        now: When it was gathered.
        model: Of which model.
        version: Its number.
        verdict: Of its gates; None: none judged it.
        approvals: Of this very verdict, the oldest first.
        needed: How many the policy wants.
        waits: For what it waits; empty: for nobody.
        barred: Its quarantine; None: it is in none.
        held: Its times in roles, the newest first.
        mlflow: Its page in MLflow.
    """

    now: datetime
    model: str
    version: int
    verdict: Verdict | None
    approvals: tuple[Approval, ...]
    needed: int
    waits: str
    barred: Quarantined | None
    held: tuple[Release, ...]
    mlflow: str

    @property
    def seen(self) -> str:
        """What tells this verdict from another one."""
        return self.verdict.hash[:SEEN] if self.verdict else ""


def version_view(gateway: Gateway, model: str, version: int) -> VersionView:
    """Gather a version, from the database alone.

    Raises:
        Unavailable: the database is away.
    """
    needed = gateway.parts.policy(model).gates.approvals
    with gateway.parts.reading() as session:
        verdict = verdict_for(session, model, version)
        given = approvals_of(session, model, version, verdict) if verdict else []
        digest = known_digest(session, model, version)
        barred = quarantined(session, model, digest) if digest else None
        held = [one for one in releases(session, model) if one.version == version]
    return VersionView(
        now=gateway.parts.clock(),
        model=model,
        version=version,
        verdict=verdict,
        approvals=tuple(given),
        needed=needed,
        waits=waiting([one.person for one in given], needed),
        barred=barred,
        held=tuple(reversed(held)),
        mlflow=mlflow_page(gateway.settings, model, version),
    )


def approve(
    gateway: Gateway, caller: Caller, model: str, version: int, fields: Mapping[str, str]
) -> None:
    """Approve the verdict that a person saw, in their name.

    Raises:
        HomeostatError: as the JSON route.
    """
    gateway.access.require(caller, "promote", model)
    body = ApprovalBody(
        version=version,
        reason=text_of(fields, "reason"),
        person=text_of(fields, "person") if caller.root else msgspec.UNSET,
        seen=fields.get("seen", ""),
    )
    approve_version(gateway, model, body, caller)
