"""Delivers the outbox's alerts, one by one, until each has arrived.

It has a thread of its own: a receiver that is slow must not hold up the controller.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from homeostat.errors import HomeostatError
from monitoring.delivery import DeliveryFailed, deliver, with_runbook
from registry.outbox import Delivery, delivered, due, failed
from serving.parts import Parts

INTERVAL_SECONDS = 0.5

logger = logging.getLogger(__name__)


class Courier:
    """Works the outbox off while this gateway is the one that acts.

    Args:
        parts: The gateway's.
        acts: Whether this gateway holds the lease.
        stopping: Ends the loop.
    """

    def __init__(self, parts: Parts, acts: Callable[[], bool], stopping: threading.Event) -> None:
        self._parts = parts
        self._runbooks = parts.settings.alerting.runbooks_url
        self._acts = acts
        self._stopping = stopping
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """End after the alert under way; the rest waits in the outbox."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    def work_off(self) -> int:
        """Try everything that is due once.

        Returns:
            How many alerts arrived.

        Raises:
            Unavailable: the database is away.
        """
        with self._parts.reading() as session:
            deliveries = due(session, self._parts.clock())
        arrived = 0
        for one in deliveries:
            if self._stopping.is_set():
                break
            arrived += self._try(one)
        return arrived

    def _try(self, one: Delivery) -> bool:
        error = ""
        try:
            deliver(one.url, with_runbook(one.alert, self._runbooks))
        except DeliveryFailed as failure:
            error = str(failure)
            logger.warning("an alert did not arrive: %s", failure)
        with self._parts.writing() as session:
            if error:
                failed(session, one.id, error, self._parts.clock())
            else:
                delivered(session, one.id, self._parts.clock())
        return not error

    def _run(self) -> None:
        while not self._stopping.wait(INTERVAL_SECONDS):
            if not self._acts():
                continue
            try:
                self.work_off()
            except HomeostatError as error:
                logger.debug("the outbox waits: %s", error)
            except Exception:
                logger.exception("the outbox could not be worked off")
