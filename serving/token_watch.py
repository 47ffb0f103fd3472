"""The tokens of the database, copied to where they are checked, and what is told of their use.

A look every second lets a token work or end within two. While the database is away, what was
known is honoured for `token_grace_seconds`, and then only the administrator's token.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy.exc import SQLAlchemyError

from homeostat.errors import HomeostatError
from registry.ended_sessions import ended_sessions
from registry.tokens import mark_used, note_refused, tokens
from serving.access import Access
from serving.background import in_background
from serving.parts import Parts

LOOK_SECONDS = 1.0
NOTE_SECONDS = 60.0  # between notes of when tokens were last used
REFUSED_SECONDS = 600.0  # between lines of the ledger about one token and one verb

logger = logging.getLogger(__name__)


class TokenWatch:
    """Looks, on a thread of its own.

    Args:
        parts: The gateway's.
        access: What checks.
        stopping: Set when the gateway ends.
    """

    def __init__(self, parts: Parts, access: Access, stopping: threading.Event) -> None:
        self._parts, self._access, self._stopping = parts, access, stopping
        self._thread = in_background(self._run, "tokens")
        self._seen = time.monotonic()
        self._noted = 0.0
        self._troubled = False
        self._told: dict[tuple[str, str], float] = {}

    def start(self) -> None:
        """Look once before the first request, then every second."""
        self.look()
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Wait for the thread, and note what is left to note."""
        if self._thread.is_alive():
            self._thread.join(seconds)
        self._attempt(self._note_use)

    def look(self) -> None:
        """Copy what the database has now; where it is away, forget what is too old."""
        if self._attempt(self._copy):
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > self._parts.settings.token_grace_seconds:
            self._access.forget()

    def tell(self) -> None:
        """Note refusals, soon, and use, each minute, where there is any."""
        now = time.monotonic()
        if any(self._due(which, now) for which in list(self._access.refused)):
            self._attempt(self._note_refusals)
        if now - self._noted >= NOTE_SECONDS and self._attempt(self._note_use):
            self._noted = now

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            self.look()
            self.tell()

    def _copy(self) -> None:
        with self._parts.reading() as session:
            found = tokens(session)
            ended = ended_sessions(session, self._parts.clock())
        self._access.know(found)
        self._access.ended |= ended

    def _note_use(self) -> None:
        used = {key: at for key, at in self._access.used.copy().items() if key}
        if not used:
            return
        with self._parts.writing() as session:
            mark_used(session, {key: datetime.fromtimestamp(at, UTC) for key, at in used.items()})
        for key, at in used.items():
            if self._access.used.get(key) == at:  # a later use waits for the next note
                del self._access.used[key]

    def _note_refusals(self) -> None:
        now = time.monotonic()
        counts = self._access.refused.copy()
        due = {which: count for which, count in counts.items() if self._due(which, now)}
        with self._parts.writing() as session:
            for (name, verb), count in due.items():
                note_refused(session, name, verb, count, self._parts.clock())
        for which, count in due.items():
            self._told[which] = now
            self._access.refused[which] -= count
            if not self._access.refused[which]:
                del self._access.refused[which]

    def _due(self, which: tuple[str, str], now: float) -> bool:
        return now - self._told.get(which, -REFUSED_SECONDS) >= REFUSED_SECONDS

    def _attempt(self, act: Callable[[], None]) -> bool:
        try:
            act()
        except (HomeostatError, SQLAlchemyError) as error:
            if not self._troubled:  # once, not every second
                logger.info("tokens: %s", error)
            self._troubled = True
            return False
        self._troubled = False
        return True
