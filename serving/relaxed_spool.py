"""A spool that is written behind the answers: what `log.durability = "relaxed"` asks for.

Entries are gathered in memory and written as one group by the first append that comes
`GROUP_SECONDS` after the group began, or makes it larger than `GROUP_BYTES`; a drain writes it in
any case. A process that is killed loses the group that it had not written.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from serving.bounded_spool import BoundedSpool
from serving.spool import Spool

GROUP_SECONDS = 0.05
GROUP_BYTES = 1024 * 1024


class RelaxedSpool(BoundedSpool):
    """A bounded spool with a group in memory before it.

    Args:
        folder: See `Spool`.
        max_bytes: See `BoundedSpool`; the group counts.
        clock: Seconds that only go forward.
    """

    def __init__(
        self, folder: Path, max_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._gathering = threading.RLock()
        self._group: list[bytes] = []
        self._group_size = 0
        self._since = 0.0
        super().__init__(folder, max_bytes)

    @property
    def pending_bytes(self) -> int:
        """Bytes that are not handed on yet, in memory and on disk."""
        return super().pending_bytes + self._group_size

    def append(self, payloads: Sequence[bytes]) -> None:
        """Take payloads; those of the last group do not survive this process.

        Raises:
            Unavailable: the spool is full, or the disk did not take the group; these payloads are
                not kept, those taken before are.
        """
        with self._gathering:
            self._refuse_if_full()
            now = self._clock()
            if self._group and (
                now - self._since >= GROUP_SECONDS or self._group_size >= GROUP_BYTES
            ):
                self._write_group()
            if not self._group:
                self._since = now
            self._group += payloads
            self._group_size += sum(map(len, payloads))

    def drain(self, handle: Callable[[list[bytes]], None]) -> int:
        """As `Spool.drain`, the group included.

        Raises:
            Unavailable: the disk did not take the group, which stays in memory.
        """
        with self._gathering:
            self._write_group()
        return super().drain(handle)

    def close(self) -> None:
        """Write the group, and release the folders."""
        with self._gathering:
            try:
                self._write_group()
            finally:
                super().close()

    def _write_group(self) -> None:
        if self._group:
            Spool.append(self, self._group)  # what was taken is kept, limit or not
            self._group, self._group_size = [], 0
