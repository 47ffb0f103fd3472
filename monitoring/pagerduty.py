"""Alerts to PagerDuty, by its Events API v2: trigger, acknowledge, resolve."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from monitoring.alerts import Alert
from monitoring.outbound import Sending, post

SUMMARY = 1024  # characters that it takes
KEY = 255
SEVERITIES = {"page": "critical", "ticket": "warning"}


def is_ours(url: str) -> bool:
    """Whether an address is `pagerduty://ROUTING_KEY`; Apprise's own also has an `@`."""
    parts = urlsplit(url)
    return parts.scheme.lower() == "pagerduty" and "@" not in parts.netloc


def send(url: str, alert: Alert, sending: Sending, timeout: float) -> None:
    """POST an alert to `/v2/enqueue`.

    Args:
        url: `pagerduty://ROUTING_KEY`, the integration key of an Events API v2 integration.
        alert: What to say.
        sending: Which base address is called.
        timeout: Seconds.

    Raises:
        DeliveryFailed: it was not taken.
    """
    body = json.dumps(event(alert, urlsplit(url).netloc), default=str).encode()
    at = f"{sending.pagerduty_url.rstrip('/')}/v2/enqueue"
    post(at, body, {"Content-Type": "application/json"}, sending.guard, timeout, shown=url)


def event(alert: Alert, routing_key: str) -> dict[str, Any]:
    """What PagerDuty takes: of one incident all events have one key.

    Whoever took an incident on here has it there too; what was mitigated stays with them.
    """
    said = {
        "routing_key": routing_key,
        "event_action": _action(alert),
        "dedup_key": alert.key[:KEY],
    }
    if said["event_action"] != "trigger":
        return said
    runbook, page = alert.detail("runbook"), alert.detail("page")
    links = [("Runbook", runbook), ("Incident", page)]
    return said | {
        "client": "Homeostat",
        "client_url": page,
        "links": [{"href": to, "text": text} for text, to in links if to.startswith("http")],
        "payload": {
            "summary": alert.title[:SUMMARY],
            "source": f"homeostat/{alert.model}",
            "severity": SEVERITIES[alert.severity],
            "timestamp": alert.at.isoformat(),
            "component": alert.model,
            "class": alert.detail("kind"),
            "custom_details": {
                "text": alert.text,
                "undo": alert.detail("undo"),
                "runbook": runbook,
                "state": alert.detail("state"),
                "incident": alert.detail("incident"),
            },
        },
    }


def _action(alert: Alert) -> str:
    if alert.status == "resolved":
        return "resolve"
    # The first thing that it hears has to open it there, whatever has become of it here.
    if alert.status == "update" and alert.detail("state") in ("acknowledged", "mitigated"):
        return "acknowledge"
    return "trigger"
