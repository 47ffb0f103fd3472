"""Alerts as CloudEvents 1.0 to an address of the web."""

from __future__ import annotations

import json
from typing import Any

from monitoring.alerts import Alert
from monitoring.outbound import Sending, post


def cloud_event(alert: Alert) -> dict[str, Any]:
    """The alert as a CloudEvents 1.0 structured JSON event."""
    return {
        "specversion": "1.0",
        "id": alert.id,
        "source": f"/homeostat/models/{alert.model}",
        "type": f"homeostat.incident.{alert.status}",
        "subject": alert.key,
        "time": alert.at.isoformat(),
        "datacontenttype": "application/json",
        "data": {
            "key": alert.key,
            "status": alert.status,
            "severity": alert.severity,
            "title": alert.title,
            "text": alert.text,
            "model": alert.model,
            "details": alert.details,
        },
    }


def send(url: str, alert: Alert, sending: Sending, timeout: float) -> None:
    """POST an alert as a CloudEvent.

    Raises:
        DeliveryFailed: it was not taken.
    """
    body = json.dumps(cloud_event(alert), default=str).encode()
    headers = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
    post(url, body, headers, sending.guard, timeout)
