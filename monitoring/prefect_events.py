"""Alerts as events of a Prefect server, for whatever automations there wait for.

Our own retrains never depend on it: the gateway asks Prefect for them itself. An event is for what
else a team hangs on an incident, and starts a report of it (`flows.deployments`).
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from monitoring.alerts import VIA_PREFECT, Alert
from monitoring.outbound import Sending, post

SAYS = ("incident", "kind", "state", "undo", "runbook", "page")  # of an alert's details


def send(url: str, alert: Alert, sending: Sending, timeout: float) -> None:
    """POST an alert to `URL/events`.

    Args:
        url: `prefect+http://host:4200/api`, or https; with user and password where the server has
            `PREFECT_SERVER_API_AUTH_STRING`.
        alert: What to say.
        sending: Which addresses may be called.
        timeout: Seconds.

    Raises:
        DeliveryFailed: it was not taken.
    """
    at = f"{url.removeprefix(VIA_PREFECT).rstrip('/')}/events"
    body = json.dumps([event(alert)]).encode()
    post(at, body, {"Content-Type": "application/json"}, sending.guard, timeout, shown=url)


def event(alert: Alert) -> dict[str, Any]:
    """What Prefect takes: `homeostat.incident.open`, `.update`, `.resolved`, or `homeostat.digest`.

    The resource is the model; an incident is related to it. A repetition has the same id.

    Args:
        alert: What to say.
    """
    incident = alert.detail("incident")
    digest = alert.status == "digest"
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, alert.id)),
        "occurred": alert.at.isoformat(),
        "event": "homeostat.digest" if digest else f"homeostat.incident.{alert.status}",
        "resource": {
            "prefect.resource.id": f"homeostat.model.{alert.model}",
            "prefect.resource.name": alert.model,
            "homeostat.severity": alert.severity,
            "homeostat.kind": alert.detail("kind"),
        },
        "related": [
            {
                "prefect.resource.id": f"homeostat.incident.{incident}",
                "prefect.resource.role": "incident",
            }
        ]
        if incident
        else [],
        "payload": {name: alert.detail(name) for name in SAYS}
        | {
            "model": alert.model,
            "severity": alert.severity,
            "title": alert.title,
            "text": alert.text,
        },
    }
