"""Bringing an alert to where somebody sees it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

import httpx

from homeostat.errors import HomeostatError
from monitoring.runbooks import runbook_address
from monitoring.signals import Severity

Status = Literal["open", "update", "resolved"]


class DeliveryFailed(HomeostatError):
    """An alert did not arrive; it is to be tried again."""

    code: ClassVar[str] = "delivery-failed"


@dataclass(frozen=True)
class Alert:
    """One message about an incident.

    Args:
        id: Unique for each message, so that a receiver can drop a repetition.
        key: The same for all messages of one incident.
        status: The incident's state.
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

    def cloud_event(self) -> dict[str, Any]:
        """The alert as a CloudEvents 1.0 structured JSON event."""
        return {
            "specversion": "1.0",
            "id": self.id,
            "source": f"/homeostat/models/{self.model}",
            "type": f"homeostat.incident.{self.status}",
            "subject": self.key,
            "time": self.at.isoformat(),
            "datacontenttype": "application/json",
            "data": {
                "key": self.key,
                "status": self.status,
                "severity": self.severity,
                "title": self.title,
                "text": self.text,
                "model": self.model,
                "details": self.details,
            },
        }


def with_runbook(alert: Alert, base: str) -> Alert:
    """The alert with the address of its runbook, in `details` and as the last line of its text.

    Args:
        alert: As it was put out; `details["runbook"]` is the runbook's name, or not there.
        base: Where runbooks are published; empty: their path in the repository.
    """
    name = str(alert.details.get("runbook", ""))
    if not name:
        return alert
    address = runbook_address(name, base)
    text = f"{alert.text}\nRunbook: {address}"
    return replace(alert, text=text, details=alert.details | {"runbook": address})


def deliver(url: str, alert: Alert, timeout: float = 5.0) -> None:
    """Send an alert once; the caller repeats what fails.

    An http or https address gets a POST of the CloudEvents JSON and must answer 2xx; redirects
    are not followed, since an alert and its token belong to the address that was set. Any other
    address goes through Apprise (mail, chat, pagers).

    Args:
        url: The receiver. It may hold secrets: no error ever shows more than scheme and host.
        alert: What to say.
        timeout: Seconds for the whole delivery.

    Raises:
        DeliveryFailed: it did not arrive, or cannot be known to have arrived.
    """
    send = _post if urlsplit(url).scheme.lower() in ("http", "https") else _notify
    failures: list[DeliveryFailed] = []
    done = threading.Event()
    thread = threading.Thread(
        target=_attempt, args=(send, url, alert, timeout, failures, done), daemon=True
    )
    thread.start()
    # A thread, because a receiver that answers a byte at a time outlasts any socket timeout.
    if not done.wait(timeout):
        raise _failed(url, f"no answer within {timeout:g} s")
    if failures:
        raise failures[0]


def masked(url: str) -> str:
    """An address without what may be secret: scheme, and for http(s) the host."""
    try:
        parts = urlsplit(url)
        web = parts.scheme.lower() in ("http", "https")
        host = f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}" if web else "***"
    except ValueError:
        return "***"
    if not parts.scheme:
        return "***"
    bare = web and parts.path in ("", "/") and not (parts.query or parts.username or parts.fragment)
    return f"{parts.scheme}://{host}" + ("" if bare or not web else "/***")


def _attempt(
    send: Callable[[str, Alert, float], None],
    url: str,
    alert: Alert,
    timeout: float,
    failures: list[DeliveryFailed],
    done: threading.Event,
) -> None:
    try:
        send(url, alert, timeout)
    except DeliveryFailed as failure:
        failures.append(failure)
    except Exception as error:  # noqa: BLE001 - plugins raise anything, and its text may hold the secret
        failures.append(_failed(url, type(error).__name__))
    finally:
        done.set()


def _post(url: str, alert: Alert, timeout: float) -> None:
    body = json.dumps(alert.cloud_event(), default=str)
    headers = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
    try:
        with (
            httpx.Client(follow_redirects=False, timeout=timeout) as client,
            client.stream("POST", url, content=body, headers=headers) as answer,
        ):
            status = answer.status_code  # the body is not read: it may be endless
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _failed(url, type(error).__name__) from None
    if 300 <= status < 400:
        raise _failed(url, f"it answered {status}, and redirects are not followed")
    if not 200 <= status < 300:
        raise _failed(url, f"it answered {status}")


def _notify(url: str, alert: Alert, timeout: float) -> None:  # noqa: ARG001 - the caller's deadline holds
    import apprise

    notifier = apprise.Apprise()
    if not notifier.add(url):
        raise _failed(url, "Apprise knows no such address")
    kind = apprise.NotifyType.FAILURE if alert.severity == "page" else apprise.NotifyType.WARNING
    if alert.status == "resolved":
        kind = apprise.NotifyType.SUCCESS
    title = f"[{alert.status}] {alert.model}: {alert.title}"
    if not notifier.notify(body=alert.text or alert.title, title=title, notify_type=kind):
        raise _failed(url, "the receiver refused it or was away")


def _failed(url: str, why: str) -> DeliveryFailed:
    return DeliveryFailed(
        f"The alert to {masked(url)} was not delivered: {why}.",
        remedy="Check the model's `alerts` in homeostat.toml and that the receiver is up.",
        url=masked(url),
    )
