"""A spool with a limit: a database that is away must not fill the disk.

At the limit nothing is taken until the database has taken some of the spool; `log.when_full` says
whether predictions are refused meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from homeostat.errors import Unavailable
from serving.spool import Spool


class BoundedSpool(Spool):
    """A spool that takes nothing more at `max_bytes`.

    Args:
        folder: See `Spool`.
        max_bytes: On disk, at most, but for the batch that reaches it.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        super().__init__(folder)
        self._max_bytes = max_bytes

    def append(self, payloads: Sequence[bytes]) -> None:
        """As `Spool.append`.

        Raises:
            Unavailable: the spool is full, or the disk took not all; nothing of it is kept.
        """
        self._refuse_if_full()
        super().append(payloads)

    def _refuse_if_full(self) -> None:
        pending = self.pending_bytes
        if pending >= self._max_bytes:
            raise Unavailable(
                f"The prediction log waits for the database: {pending} bytes, of at most "
                f"{self._max_bytes}.",
                remedy="See that the lifecycle database runs, or raise max_spool_bytes;"
                " log.when_full = 'unlogged' answers all the same.",
                limit=self._max_bytes,
            )
