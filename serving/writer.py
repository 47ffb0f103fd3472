"""The thread that brings the prediction log from the spool to the database."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import msgspec
from sqlalchemy.orm import Session, sessionmaker

from homeostat.errors import HomeostatError, Unavailable
from registry.blocks import id_text, to_blocks
from registry.database import transaction
from registry.labels import LabelOutcome, adopt_orphans
from registry.log import log_blocks
from serving.background import in_background
from serving.entries import read_entry
from serving.metrics import Metrics
from serving.shadows import Shadows
from serving.spool import Spool

INTERVAL_SECONDS = 0.4
BACK_OFF_SECONDS = 2.0

logger = logging.getLogger(__name__)


class Writer:
    """Drains the spool every now and then, and at once when a label asks for it.

    Args:
        spool: What is drained.
        shadows: Asks the standbys before it is logged.
        maker: Sessions of the lifecycle database.
        metrics: What is counted.
        joined: Turns labels that waited for these predictions into losses, in the same
            transaction that logs them; what it returns is called once that is kept.
    """

    def __init__(
        self,
        spool: Spool,
        shadows: Shadows,
        maker: sessionmaker[Session],
        metrics: Metrics,
        joined: Callable[[Session, list[LabelOutcome]], Callable[[], None]],
    ) -> None:
        self._spool = spool
        self._shadows = shadows
        self._maker = maker
        self._metrics = metrics
        self._joined = joined
        self._stopping = threading.Event()
        self._thread = in_background(self._run, "writer")

    def start(self) -> None:
        """Begin to drain; what an earlier process left comes first."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Drain a last time and end; what could not be written stays in the spool."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(seconds)
        try:
            self.drain()
        except HomeostatError as error:
            logger.warning("the spool is kept for the next start: %s", error)

    def drain(self) -> int:
        """Bring all that was answered so far to the database.

        Returns:
            How many requests were logged.

        Raises:
            Unavailable: the database is away; nothing is lost.
        """
        handled = self._spool.drain(self._log)
        self._metrics.spool_bytes.set(self._spool.pending_bytes)
        return handled

    def _log(self, payloads: list[bytes]) -> None:
        entries = []
        for payload in payloads:
            try:
                entries.append(read_entry(payload))
            except msgspec.MsgspecError:
                # Written by another release of the gateway, perhaps: it must not block the rest.
                logger.exception("an entry of the spool cannot be read and is left out")
        for entry, unseen in zip(entries, self._shadows.ask(entries), strict=True):
            for version, outputs in unseen.items():
                entry.answered.shadows.append((version, outputs.shape[1], outputs.tobytes()))
        blocks = to_blocks((entry.who, entry.answered) for entry in entries)
        if not blocks:
            return
        span = min(one.first for one in blocks), max(one.last for one in blocks)
        with transaction(self._maker) as session:
            log_blocks(session, blocks)
            adopted = adopt_orphans(session, (id_text(span[0]), id_text(span[1])))
            kept = self._joined(session, adopted) if adopted else None
        if kept is not None:
            kept()
        self._metrics.logged.inc(sum(block.rows for block in blocks))

    def _run(self) -> None:
        pause = INTERVAL_SECONDS
        while not self._stopping.wait(pause):
            try:
                self.drain()
                pause = INTERVAL_SECONDS
            except Unavailable as error:
                if pause != BACK_OFF_SECONDS:
                    logger.warning("predictions wait in the spool: %s", error)
                pause = BACK_OFF_SECONDS
            except Exception:
                logger.exception("the prediction log could not be written")
                pause = BACK_OFF_SECONDS
