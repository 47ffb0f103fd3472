"""Bringing an alert to where somebody sees it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import parse_qs, quote, urlsplit

from monitoring import alertmanager, pagerduty, prefect_events, webhooks
from monitoring.alerts import Alert, DeliveryFailed, failed
from monitoring.outbound import Forbidden, Sending
from monitoring.runbooks import runbook_address

Sender = Callable[[str, Alert, Sending, float], None]

SAFE = Sending()


def with_links(alert: Alert, sending: Sending) -> Alert:
    """The alert with the addresses that it leads to, in `details` and as last lines of its text.

    Args:
        alert: As it was put out: `details` has `runbook`, a name, and `incident`, an id, where it
            is about an incident.
        sending: Where runbooks are published, and the page is.
    """
    links: dict[str, str] = {}
    if name := alert.detail("runbook"):
        links["runbook"] = runbook_address(name, sending.runbooks_url)
    if (incident := alert.detail("incident")) and sending.page_url:
        links["page"] = f"{sending.page_url.rstrip('/')}/page/incidents/{quote(incident, safe='')}"
    lines = [f"{label.capitalize()}: {address}" for label, address in links.items()]
    return replace(alert, text="\n".join([alert.text, *lines]), details=alert.details | links)


def deliver(url: str, alert: Alert, sending: Sending = SAFE, timeout: float = 5.0) -> None:
    """Send an alert once; the caller repeats what fails.

    An http or https address gets a POST of the CloudEvents JSON, `alertmanager+http(s)` one of
    Alertmanager's, `prefect+http(s)` one of an event to Prefect, `pagerduty://KEY` one to
    PagerDuty; they must answer 2xx. Any other address goes
    through Apprise (mail, chat). Redirects are not followed, since an alert and its token belong to
    the address that was set.

    Args:
        url: The receiver. It may hold secrets: no error ever shows more than scheme and host.
        alert: What to say.
        sending: Which addresses may be called, and what alerts are signed with.
        timeout: Seconds for the whole delivery.

    Raises:
        DeliveryFailed: it did not arrive, or cannot be known to have arrived.
    """
    failures: list[DeliveryFailed] = []
    done = threading.Event()
    alert = with_links(alert, sending)
    thread = threading.Thread(
        target=_attempt, args=(url, alert, sending, timeout, failures, done), daemon=True
    )
    thread.start()
    # A thread, because a receiver that answers a byte at a time outlasts any socket timeout.
    if not done.wait(timeout):
        raise failed(url, f"no answer within {timeout:g} s")
    if failures:
        raise failures[0]


def _attempt(
    url: str,
    alert: Alert,
    sending: Sending,
    timeout: float,
    failures: list[DeliveryFailed],
    done: threading.Event,
) -> None:
    try:
        _sender(url)(url, alert, sending, timeout)
    except DeliveryFailed as failure:
        failures.append(failure)
    except Exception as error:  # noqa: BLE001 - plugins raise anything, and its text may hold the secret
        failures.append(failed(url, type(error).__name__))
    finally:
        done.set()


def _notify(url: str, alert: Alert, sending: Sending, timeout: float) -> None:  # noqa: ARG001 - the caller's deadline holds
    import apprise

    _check_hosts(url, sending)
    notifier = apprise.Apprise(asset=apprise.AppriseAsset(http_redirects=False))
    if not notifier.add(url):
        raise failed(url, "Apprise knows no such address")
    kind = apprise.NotifyType.FAILURE if alert.severity == "page" else apprise.NotifyType.WARNING
    if alert.status in ("resolved", "digest"):
        done = alert.status == "resolved"
        kind = apprise.NotifyType.SUCCESS if done else apprise.NotifyType.INFO
    title = f"[{alert.status}] {alert.model}: {alert.title}"
    if not notifier.notify(body=alert.text or alert.title, title=title, notify_type=kind):
        raise failed(url, "the receiver refused it or was away")


def _check_hosts(url: str, sending: Sending) -> None:
    """Refuse an address of Apprise's whose host may not be called.

    Where a host stands, many services have a token, which resolves to nothing.
    """
    parts = urlsplit(url)
    for host in [parts.hostname, *parse_qs(parts.query).get("smtp", [])]:
        try:
            with contextlib.suppress(OSError, UnicodeError):
                sending.guard.addresses(host or "", parts.port or 0)
        except Forbidden as error:
            raise failed(url, str(error)) from None


_SENDERS: dict[str, Sender] = {
    "http": webhooks.send,
    "https": webhooks.send,
    "alertmanager+http": alertmanager.send,
    "alertmanager+https": alertmanager.send,
    "prefect+http": prefect_events.send,
    "prefect+https": prefect_events.send,
}


def _sender(url: str) -> Sender:
    if pagerduty.is_ours(url):
        return pagerduty.send
    return _SENDERS.get(urlsplit(url).scheme.lower(), _notify)
