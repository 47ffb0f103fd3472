"""Where a training stands, kept so that one that was killed goes on and ends with the same bits.

    PART.json                  fingerprint, counts, and the name and SHA-256 of its tensors
    PART-STEPS.safetensors     weights, optimiser, generator, order of the rows

The JSON is renamed into place after the tensors are on disk, so a kill at any moment leaves the
last whole one. A training of several runs of the loop (a strategy that tries two) has a part for
each. Files are read back as if an enemy had written them: what is not whole, or was kept of another
training (other rows, weights, budget or seed), is not gone on from.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from homeostat.errors import SuspectArtifact
from models.stored import (
    MAX_JSON_BYTES,
    MAX_TENSOR_BYTES,
    canonical,
    parse_object,
    parse_tensors,
    read_bounded,
    refuse,
    tensor_bytes,
)

EVERY = 10.0  # seconds from one to the next
COSTS_AT_MOST = 0.05  # share of the time that goes into keeping them
_SCHEMA = 1
_FIELDS = {"schema", "fingerprint", "file", "sha256", "about"}
_TENSORS = re.compile(r"\d{1,9}-\d{1,12}\.safetensors")


@dataclass(frozen=True)
class Kept:
    """What was kept: tensors by name, and plain JSON about them."""

    tensors: Mapping[str, Tensor]
    about: Mapping[str, Any]


class Checkpoint:
    """The checkpoint of one piece of work, in a folder of its own.

    Args:
        folder: Made when the first is kept; `clear` removes what was kept there.
        every: Seconds from one to the next, at least; 0: after each step; None: `EVERY`.
        timer: Seconds that only grow.
    """

    def __init__(
        self,
        folder: Path,
        every: float | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self._every = EVERY if every is None else every
        self._timer = timer
        self._part = -1
        self._fingerprint = ""
        self._next = 0.0
        self._usable = True

    def begin(self, fingerprint: str) -> Kept | None:
        """Begin the next part; what was kept of the very same one, or None.

        Args:
            fingerprint: Of all that decides how it goes.
        """
        self._part += 1
        self._fingerprint = fingerprint
        self._next = self._timer() + self._every
        try:
            return self._read()
        except SuspectArtifact:
            return None

    @property
    def due(self) -> bool:
        """Whether it is time to keep where the training stands."""
        return self._usable and self._timer() >= self._next

    def keep(self, steps: int, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Keep where the training stands, in place of what was kept before.

        Where the disk is full or gone the training goes on without.
        """
        began = self._timer()
        try:
            self._write(f"{self._part}-{steps}.safetensors", tensor_bytes(tensors), about)
        except OSError:
            self._usable = False
        now = self._timer()
        self._next = now + (max(self._every, (now - began) / COSTS_AT_MOST) if self._every else 0.0)

    def clear(self) -> None:
        """Remove what was kept, when the work is done."""
        if not self.folder.is_dir() or self.folder.is_symlink():
            return
        for path in self.folder.iterdir():
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _write(self, name: str, content: bytes, about: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(content).hexdigest()
        told = {
            "schema": _SCHEMA,
            "fingerprint": self._fingerprint,
            "file": name,
            "sha256": digest,
            "about": dict(about),
        }
        settled(self.folder / name, content)
        settled(self.folder / f"{self._part}.json", canonical(told))
        for path in self.folder.glob(f"{self._part}-*"):
            if path.name != name:
                path.unlink(missing_ok=True)

    def _read(self) -> Kept | None:
        path = self.folder / f"{self._part}.json"
        if not path.exists():
            return None
        told = parse_object(read_bounded(path, MAX_JSON_BYTES), path.name)
        if set(told) != _FIELDS or told["schema"] != _SCHEMA:
            raise refuse(f"{path.name} is no checkpoint.")
        if told["fingerprint"] != self._fingerprint or not isinstance(told["about"], dict):
            return None
        name = str(told["file"])
        if not _TENSORS.fullmatch(name):
            raise refuse(f"{path.name} names no file of its own.")
        content = read_bounded(self.folder / name, MAX_TENSOR_BYTES)
        if hashlib.sha256(content).hexdigest() != told["sha256"]:
            raise refuse(f"{name} is not what {path.name} says.")
        return Kept(parse_tensors(content, name), told["about"])


def settled(path: Path, content: bytes) -> None:
    """Write a file so that after a kill, or a power cut, there is the old one or the new one.

    Raises:
        OSError: the disk is full or gone.
    """
    half = path.with_name(f"{path.name}.half")
    with half.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
