"""Delivers the outbox's alerts, one by one, until each has arrived.

It has a thread of its own: a receiver that is slow must not hold up the controller.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from homeostat.errors import HomeostatError
from homeostat.policy import address_of
from homeostat.settings import Settings, is_loopback
from monitoring import alertmanager
from monitoring.alerts import VIA_ALERTMANAGER, DeliveryFailed
from monitoring.delivery import deliver
from monitoring.outbound import Guard, Sending
from registry.alert_routes import recipients
from registry.outbox import Delivery, delivered, due, failed, pass_on, refused, standing
from serving.background import in_background
from serving.parts import Parts

INTERVAL_SECONDS = 0.5
AGAIN_SECONDS = alertmanager.EVERY.total_seconds()
LOOK_SECONDS = 10.0  # between two looks for what has to be sent again

logger = logging.getLogger(__name__)


def sending_of(settings: Settings) -> Sending:
    """How the alerts of this installation leave."""
    alerting = settings.alerting
    guard = Guard(alerting.allow_hosts, loopback=is_loopback(settings.host))
    return Sending(
        guard,
        webhook_secret=alerting.webhook_secret.get_secret_value(),
        pagerduty_url=alerting.pagerduty_url,
        runbooks_url=alerting.runbooks_url,
        page_url=alerting.page_url or settings.gateway_admin_address,
    )


class Courier:
    """Works the outbox off while this gateway is the one that acts.

    Args:
        parts: The gateway's.
        acts: Whether this gateway holds the lease.
        stopping: Ends the loop.
    """

    def __init__(self, parts: Parts, acts: Callable[[], bool], stopping: threading.Event) -> None:
        self._parts = parts
        self._sending = sending_of(parts.settings)
        self._acts = acts
        self._stopping = stopping
        self._sent: dict[tuple[str | None, str], float] = {}  # what fires: when last
        self._looked = float("-inf")
        self._thread = in_background(self._run, "courier")

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """End after the alert under way; the rest waits in the outbox."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    def work_off(self) -> int:
        """Try everything that is due once; of an address that does not take one, no more.

        Returns:
            How many alerts arrived.

        Raises:
            Unavailable: the database is away.
        """
        with self._parts.reading() as session:
            deliveries = due(session, self._parts.clock())
        arrived, away = 0, set()
        for one in deliveries:
            if self._stopping.is_set():
                break
            if one.url in away:  # each would wait its time: others are not to wait with it
                continue
            if not self._is_set(one):
                self._pass_on(one)
                continue
            if self._try(one):
                arrived += 1
            else:
                away.add(one.url)
        return arrived

    def remind(self) -> int:
        """Send again what still fires, to receivers that take silence for its end.

        Returns:
            How many were sent.

        Raises:
            Unavailable: the database is away.
        """
        self._looked = now = time.monotonic()
        with self._parts.reading() as session:
            firing = standing(session, VIA_ALERTMANAGER)
            waiting = refused(session)
        self._parts.metrics.alerts_waiting.set(waiting)
        known = {(one.incident_id, one.url) for one in firing}
        self._sent = {key: at for key, at in self._sent.items() if key in known}
        sent, away = 0, set()
        for one in firing:
            key = (one.incident_id, one.url)
            is_new = now - self._sent.get(key, float("-inf")) < AGAIN_SECONDS
            if is_new or one.url in away or not self._is_set(one):
                continue
            if self._send(one):
                away.add(one.url)
            else:
                self._sent[key] = now
                sent += 1
        return sent

    def _is_set(self, one: Delivery) -> bool:
        """Whether the settings still name the address."""
        policy = self._parts.settings.models.get(one.alert.model)
        return policy is not None and one.url in map(address_of, policy.alerts)

    def _pass_on(self, one: Delivery) -> None:
        """A key was changed, say: what waits for the old address goes to the new one."""
        policy, now = self._parts.settings.models.get(one.alert.model), self._parts.clock()
        severity = one.alert.severity
        urls = recipients(policy.alerts, severity, now) if policy and one.incident_id else {}
        with self._parts.writing() as session:
            pass_on(session, one, urls, now)

    def _send(self, one: Delivery) -> str:
        """Why it did not arrive; empty: it did."""
        try:
            deliver(one.url, one.alert, self._sending)
        except DeliveryFailed as failure:
            self._parts.metrics.alerts.labels("failed").inc()
            logger.warning("an alert did not arrive: %s", failure)
            return str(failure)
        self._parts.metrics.alerts.labels("arrived").inc()
        return ""

    def _try(self, one: Delivery) -> bool:
        error = self._send(one)
        with self._parts.writing() as session:
            if error:
                failed(session, one.id, error, self._parts.clock())
            else:
                delivered(session, one.id, self._parts.clock())
        self._sent[one.incident_id, one.url] = time.monotonic()
        return not error

    def _run(self) -> None:
        while not self._stopping.wait(INTERVAL_SECONDS):
            if not self._acts():
                self._parts.metrics.alerts_waiting.set(0)  # who acts tells
                continue
            try:
                self.work_off()
                if time.monotonic() - self._looked >= LOOK_SECONDS:
                    self.remind()
            except HomeostatError as error:
                logger.debug("the outbox waits: %s", error)
            except Exception:
                logger.exception("the outbox could not be worked off")
