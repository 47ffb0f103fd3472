"""An alert, and the error of one that did not arrive."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from homeostat.errors import HomeostatError
from monitoring.signals import Severity

Status = Literal["open", "update", "resolved", "digest"]
WEB = ("http", "https")
VIA_ALERTMANAGER, VIA_PREFECT = "alertmanager+", "prefect+"  # before a scheme of the web


class DeliveryFailed(HomeostatError):
    """An alert did not arrive; it is to be tried again."""

    code: ClassVar[str] = "delivery-failed"


@dataclass(frozen=True)
class Alert:
    """One message about an incident.

    Args:
        id: Unique for each message, so that a receiver can drop a repetition.
        key: The same for all messages of one incident.
        status: What is told of the incident; `digest`: it is about none.
        severity: Whether to wake somebody.
        title: One line.
        text: What happened, what was done, how to undo it.
        model: The model's name.
        at: When, in UTC.
        details: Plain JSON.
    """

    id: str
    key: str
    status: Status
    severity: Severity
    title: str
    text: str
    model: str
    at: datetime
    details: dict[str, Any] = field(default_factory=dict)

    def detail(self, name: str) -> str:
        """One of the details as text; empty where it is not there."""
        return str(self.details.get(name) or "")


def masked(url: str) -> str:
    """An address without what may be secret: scheme, and for the web the host."""
    try:
        parts = urlsplit(url)
        scheme = parts.scheme.lower().removeprefix(VIA_ALERTMANAGER).removeprefix(VIA_PREFECT)
        web = scheme in WEB
        host = f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}" if web else "***"
    except ValueError:
        return "***"
    if not parts.scheme:
        return "***"
    bare = web and parts.path in ("", "/") and not (parts.query or parts.username or parts.fragment)
    return f"{parts.scheme}://{host}" + ("" if bare or not web else "/***")


def failed(url: str, why: str) -> DeliveryFailed:
    """The error of an alert that did not arrive.

    Args:
        url: The receiver; it is shown without what may be secret.
        why: Without a full stop.
    """
    return DeliveryFailed(
        f"The alert to {masked(url)} was not delivered: {why}.",
        remedy="Check the model's `alerts` in homeostat.toml and that the receiver is up.",
        url=masked(url),
    )
