"""The controller's lease: who acts, and the check of it in every transaction that acts.

A gateway that slept (a stopped process, a machine that swapped) wakes believing that it holds
the lease. The flag in memory is only what is believed; `acting` asks the database, in the same
transaction as the act, so a holder that was followed by another changes nothing.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from sqlalchemy.orm import Session

from homeostat.errors import Refused, Unavailable
from registry import leases
from serving.parts import Parts

NAME = "controller"
SECONDS = 15.0

Acting = Callable[[], AbstractContextManager[Session]]

logger = logging.getLogger(__name__)


class Lease:
    """One gateway's hold on the right to act.

    Args:
        parts: The gateway's.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._holder = f"{socket.gethostname()}/{uuid.uuid4().hex[:12]}"
        self._token: int | None = None
        self._changing = threading.RLock()

    @property
    def held(self) -> bool:
        """Whether this gateway believes that it is the one that acts."""
        return self._token is not None

    def hold(self) -> bool:
        """Take the lease, or keep it; whether it is held now.

        Raises:
            Unavailable: the database is away; it is held no longer.
        """
        parts = self._parts
        try:
            with parts.writing() as session:
                token = leases.acquire(session, NAME, self._holder, SECONDS, parts.clock())
        except Unavailable:
            self._believe(None)  # whoever reaches the database may take it
            raise
        self._believe(token)
        return token is not None

    @contextlib.contextmanager
    def acting(self) -> Iterator[Session]:
        """One writing transaction that nobody but the lease's holder can make.

        Raises:
            Refused: the lease was lost; nothing was kept.
            Unavailable: the database is away; nothing was kept.
        """
        token = self._token or 0  # no lease has that number
        with self._parts.writing() as session:
            try:
                leases.check(session, NAME, token, self._parts.clock())
            except Refused:
                with self._changing:  # unless another thread has taken it again since
                    if self._token == token:
                        self._believe(None)
                raise
            yield session

    def check(self) -> None:
        """Refuse to go on without the lease, before something that no transaction covers.

        Raises:
            Refused: the lease was lost.
            Unavailable: the database is away.
        """
        with self.acting():
            pass

    def give_back(self) -> None:
        """Let another gateway act at once.

        Raises:
            Unavailable: the database is away; the lease runs out by itself.
        """
        token = self._token
        if token is None:
            return
        self._believe(None)
        with self._parts.writing() as session:
            leases.release(session, NAME, token)

    def _believe(self, token: int | None) -> None:
        with self._changing:
            if (token is None) != (self._token is None):
                logger.info("this gateway %s", "acts" if token is not None else "follows another")
            self._token = token
            self._parts.metrics.lease.set(0 if token is None else 1)
