"""How a gateway ends: unready first, then deaf, and gone once everybody has their answer.

At SIGTERM readiness becomes 503 and each answer says `connection: close`, while connections are
still taken for `drain_seconds`: balancers turn away, and clients that keep connections open let go
of them by themselves. Closing a connection that a request is on its way through would reset it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time

import uvicorn

logger = logging.getLogger(__name__)


class Leaving:
    """Whether this process was asked to end; its connections and its readiness ask."""

    begun = False


class DrainingServer(uvicorn.Server):
    """uvicorn's server, that takes leave before it stops to listen.

    Args:
        config: uvicorn's.
        leaving: Is told when the end begins.
        seconds: How long it listens after that.
    """

    def __init__(self, config: uvicorn.Config, leaving: Leaving, seconds: float) -> None:
        super().__init__(config)
        self._leaving, self._seconds = leaving, seconds

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take leave, then stop as uvicorn does."""
        self._leaving.begun = True
        until = time.monotonic() + self._seconds
        while time.monotonic() < until and not self.force_exit:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0)  # take in whom the kernel has connected: closing resets them
        await super().shutdown(sockets)
