"""Alerts as CloudEvents 1.0 to an address of the web."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

from monitoring.alerts import Alert
from monitoring.outbound import Sending, post


def cloud_event(alert: Alert) -> dict[str, Any]:
    """The alert as a CloudEvents 1.0 structured JSON event."""
    return {
        "specversion": "1.0",
        "id": alert.id,
        "source": f"/homeostat/models/{alert.model}",
        "type": "homeostat.digest"
        if alert.status == "digest"
        else f"homeostat.incident.{alert.status}",
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
    if sending.webhook_secret:
        headers |= signature(sending.webhook_secret, alert.id, int(time.time()), body)
    post(url, body, headers, sending.guard, timeout)


def signature(secret: str, alert_id: str, at: int, body: bytes) -> dict[str, str]:
    """The three headers by which a receiver knows that a call is ours, as Standard Webhooks says.

    Args:
        secret: `whsec_` and base64.
        alert_id: Of the alert. Its hash is the message's id, which has to be without a full stop.
        at: Seconds of the epoch; a receiver refuses what is old.
        body: As it is sent.
    """
    message = f"msg_{hashlib.sha256(alert_id.encode()).hexdigest()[:32]}"
    return {
        "webhook-id": message,
        "webhook-timestamp": str(at),
        "webhook-signature": seal(secret, message, at, body),
    }


def seal(secret: str, message: str, at: int, body: bytes) -> str:
    """Version 1 of the signature: HMAC-SHA256 over id, time and body."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    found = hmac.new(key, f"{message}.{at}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(found).decode()}"
