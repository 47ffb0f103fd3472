"""The prediction log's first station: an append-only file that survives `kill -9`.

A batch is one `write` to a file before its answers leave. What the operating system has taken
outlives the process, so nothing that was answered is lost; no fsync is paid for. A drain seals
the active segment, reads it, hands its entries on, and removes it. A frame is

    length (4 bytes, big endian) | CRC-32 of the payload (4 bytes) | payload

so a tail torn by a crash or a full disk is recognised and left out: it was never answered.
Each process writes to a folder of its own that it holds by a file lock; the folders of dead
processes are taken over.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import threading
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from homeostat.errors import Unavailable

_FRAME = struct.Struct(">II")
_LOCK = "lock"
_NOT_YET = "."  # begins the name of a folder that comes or goes
_CHUNK_BYTES = 1024 * 1024  # handed on at once: one transaction

logger = logging.getLogger(__name__)


class Spool:
    """Frames on disk between the answering thread and the draining one.

    Args:
        folder: Where the spools of all gateways of this state folder lie.
        segment_bytes: A file larger than this is sealed even if nobody drains.
    """

    def __init__(self, folder: Path, segment_bytes: int = 64 * 1024 * 1024) -> None:
        self._segment_bytes = segment_bytes
        folder.mkdir(parents=True, exist_ok=True)
        self._append = threading.Lock()
        self._drain = threading.Lock()
        self._held: list[tuple[Path, IO[bytes]]] = []
        self._sealed: list[Path] = []
        for old in sorted(path for path in folder.iterdir() if _is_home(path)):
            self._take_over(old)
        self._home = self._new_home(folder)
        self._number = 0
        self._open_segment()

    @property
    def pending_bytes(self) -> int:
        """Bytes that are not handed on yet."""
        return self._size + sum(map(_size, tuple(self._sealed)))

    def append(self, payloads: Sequence[bytes]) -> None:
        """Write payloads in one go; they survive this process when this returns.

        Raises:
            Unavailable: the disk took none of it, or not all; nothing of it is kept.
        """
        frames = b"".join(
            part
            for payload in payloads
            for part in (_FRAME.pack(len(payload), zlib.crc32(payload)), payload)
        )
        with self._append:
            try:
                written = os.write(self._descriptor, frames)
                if written != len(frames):
                    raise OSError(f"only {written} of {len(frames)} bytes were written")
            except OSError as error:
                # Cut the torn frame off, so that later frames can be read.
                os.ftruncate(self._descriptor, self._size)
                raise Unavailable(
                    f"The prediction log cannot be written: {error}.",
                    remedy="Free space under the state folder; no answer leaves unlogged.",
                ) from error
            self._size += len(frames)
            if self._size >= self._segment_bytes:  # a database long away: keep files readable
                self._seal()

    def drain(self, handle: Callable[[list[bytes]], None]) -> int:
        """Hand all that was appended so far to `handle`, then forget it.

        A segment is removed only after every entry of it was handled: if `handle` raises, or
        the process dies, the segment is handed on again, so `handle` must be idempotent.

        Returns:
            How many payloads were handled.
        """
        with self._drain:
            handled = self._work_off(handle)  # what a failed drain or a dead process left
            with self._append:
                self._seal()
            return handled + self._work_off(handle)

    def close(self) -> None:
        """Release the folders; empty ones go, others stay for the next process."""
        with self._append:
            os.close(self._descriptor)
        for home, lock in self._held:
            if all(path.name == _LOCK or path.stat().st_size == 0 for path in home.iterdir()):
                going = home.rename(home.with_name(f"{_NOT_YET}{home.name}"))
                for path in going.iterdir():
                    path.unlink()
                going.rmdir()
            lock.close()

    def _work_off(self, handle: Callable[[list[bytes]], None]) -> int:
        handled = 0
        while self._sealed:
            path = self._sealed[0]
            for payloads in _chunks(read_frames(path)):
                handle(payloads)
                handled += len(payloads)
            path.unlink(missing_ok=True)
            self._sealed.pop(0)
        return handled

    def _seal(self) -> None:
        if self._size == 0:
            return
        os.close(self._descriptor)
        self._sealed.append(self._active)
        self._open_segment()

    def _open_segment(self) -> None:
        self._number += 1
        self._active = self._home / f"{self._number:010d}.log"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self._active, flags, 0o600)
        self._size = 0

    def _new_home(self, folder: Path) -> Path:
        """A folder that is locked before others see it: they take over what nobody holds."""
        name = uuid.uuid4().hex
        coming = folder / f"{_NOT_YET}{name}"
        coming.mkdir()
        self._held.append((folder / name, _lock(coming)))
        return coming.rename(folder / name)

    def _take_over(self, home: Path) -> None:
        try:
            lock = _lock(home)
        except (BlockingIOError, FileNotFoundError):  # somebody holds it, or has just closed it
            return
        if not (home / _LOCK).exists():  # closed between our opening the file and locking it
            lock.close()
            return
        self._held.append((home, lock))
        self._sealed.extend(sorted(home.glob("*.log")))


def _is_home(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(_NOT_YET)


def _lock(home: Path) -> IO[bytes]:
    """The locked file of a folder.

    Raises:
        BlockingIOError: somebody else has locked it.
    """
    lock = (home / _LOCK).open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise
    return lock


def read_frames(path: Path) -> Iterator[bytes]:
    """The whole frames of a segment, in order, up to a torn or damaged one."""
    with path.open("rb") as file:
        while header := file.read(_FRAME.size):
            if len(header) == _FRAME.size:
                length, checksum = _FRAME.unpack(header)
                payload = file.read(length)
                if len(payload) == length and zlib.crc32(payload) == checksum:
                    yield payload
                    continue
            logger.warning("%s ends in a torn entry, which was never answered", path)
            return


def _chunks(frames: Iterator[bytes]) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    size = 0
    for frame in frames:
        chunk.append(frame)
        size += len(frame)
        if size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # handed on a moment ago, by another thread
        return 0
