"""Alerts to Prometheus' Alertmanager, by its API v2.

Alertmanager takes an alert for over once nobody has sent it for a while, so an incident is sent
again and again as long as it is open, and ended by `endsAt` when it is resolved. What an alert is
the same as, its labels decide: they are those of the incident, from its first signal to its end.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from homeostat.clock import utc_now
from monitoring.alerts import VIA_ALERTMANAGER, Alert
from monitoring.outbound import Sending, post

EVERY = timedelta(seconds=60)  # between two sendings of one that fires
LASTS = timedelta(minutes=5)  # unless it is sent again
NAME = "HomeostatIncident"


def send(url: str, alert: Alert, sending: Sending, timeout: float) -> None:
    """POST an alert to `URL/api/v2/alerts`.

    Args:
        url: `alertmanager+http://host:9093`, or https; with the prefix of its routes, if it has
            one.
        alert: What to say.
        sending: Which addresses may be called.
        timeout: Seconds.

    Raises:
        DeliveryFailed: it was not taken.
    """
    at = f"{url.removeprefix(VIA_ALERTMANAGER).rstrip('/')}/api/v2/alerts"
    body = json.dumps(postable(alert, utc_now())).encode()
    post(at, body, {"Content-Type": "application/json"}, sending.guard, timeout, shown=url)


def postable(alert: Alert, now: datetime) -> list[dict[str, Any]]:
    """What Alertmanager takes.

    The severity is a label, since its routes are chosen by labels; it only rises, so what was sent
    as a ticket is ended where it has become a page.

    Args:
        alert: About one incident.
        now: The present moment.
    """
    began = alert.detail("opened_at") or alert.at.isoformat()
    over = max(alert.at, datetime.fromisoformat(began)).isoformat()
    firing = alert.status != "resolved"
    sent = [_one(alert, alert.severity, began, (now + LASTS).isoformat() if firing else over)]
    if alert.severity == "page":
        sent.append(_one(alert, "ticket", began, over))
    return sent


def _one(alert: Alert, severity: str, began: str, ends: str) -> dict[str, Any]:
    says = {
        "summary": alert.title,
        "description": alert.text,
        "undo": alert.detail("undo"),
        "runbook_url": alert.detail("runbook"),
        "state": alert.detail("state"),
        "incident_id": alert.detail("incident"),
    }
    return {
        "labels": {
            "alertname": NAME,
            "incident": alert.key,
            "model": alert.model,
            "severity": severity,
        },
        "annotations": {name: value for name, value in says.items() if value},
        "startsAt": began,
        "endsAt": ends,
    } | ({"generatorURL": page} if (page := alert.detail("page")) else {})
