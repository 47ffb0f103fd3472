"""A pyfunc model in a process of its own: started, asked over a socket, started again when it dies.

The process is given its files, unpacked from the verified artifact, and nothing else: no token, no
address, no variable of ours. What passes between the two is numbers and texts in bounded frames;
nothing that comes back is more than that.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from homeostat.errors import ArtifactError, LearnerError, Unavailable
from models.pyfunc import Apart, Values
from models.stored import refuse

MAX_FRAME = 64 * 1024 * 1024
START_SECONDS = 180.0  # importing MLflow and what the model needs, on a busy machine
ASK_SECONDS = 10.0  # for one batch
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # before it is started again
STEADY_SECONDS = 60.0  # it has to answer so long before a death counts as the first again
MAX_FILES, MAX_DEPTH = 10_000, 16
PROCESS = Path(__file__).with_name("pyfunc_process.py")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]{0,127}")

logger = logging.getLogger(__name__)


class Died(Exception):
    """The process is gone, or was ended because it took too long."""


class Worker(Apart):
    """A model's process.

    Args:
        name: Of the version, for messages.
        files: Of the model by path, uint8 (bytes,).
        seconds: What one batch may take.

    Raises:
        ArtifactError: the model cannot be loaded; the message has its own words.
        SuspectArtifact: a file's path leads elsewhere.
    """

    def __init__(
        self, name: str, files: Mapping[str, Tensor], seconds: float = ASK_SECONDS
    ) -> None:
        super().__init__(files)
        self.name = name
        self.classes: list[Any] = []
        self._seconds = seconds
        self._lock = threading.Lock()
        self._folder = Path(tempfile.mkdtemp(prefix="homeostat-worker-"))
        self._state = _State()
        self._end = weakref.finalize(self, _end, self._state, self._folder)
        try:
            unpack(files, self._folder)
            first = self._start()
        except Died as error:
            self.close()
            raise self._unloadable(f"its process ended: {error}") from error
        except BaseException:
            self.close()
            raise
        self.classes = list(first.get("classes", ()))

    def close(self) -> None:
        """End the process and remove its files; also done when nobody holds this any more."""
        self._end()

    @property
    def pid(self) -> int:
        """Of the process as it is now."""
        process = self._state.process
        return process.pid if process else 0

    def ask(self, columns: Mapping[str, Values], tensor: str) -> Values:
        """As `Apart.ask`."""
        asked = {"columns": {name: _packed(values) for name, values in columns.items()}}
        body = msgspec.msgpack.encode(asked | {"tensor": tensor})
        with self._lock:
            link = self._state.link
            if link is None:
                raise Unavailable(
                    f"The process of {self.name} is being started again.",
                    remedy="Try again in some seconds.",
                )
            try:
                answer = _exchange(link, body, self._seconds)
            except (Died, OSError) as error:
                self._lose(str(error) or type(error).__name__)
                raise LearnerError(
                    f"The process of {self.name} ended while it answered: {error}.",
                    remedy="It is started again by itself; look at the rows if it ends again.",
                ) from error
        if "error" in answer:
            raise LearnerError(
                f"{self.name} failed: {answer['error']}",
                remedy="Send rows that the model takes, or look at the model.",
            )
        return _values(answer)

    def revive(self) -> None:
        """Start the process again, unless this was closed meanwhile."""
        if self._end.alive:
            try:
                self._start()
            except (Died, OSError, ArtifactError) as error:
                self._lose(str(error))
                return
            logger.info("the process of %s answers again", self.name)
        if not self._end.alive:  # closed while it started
            self._state.drop()

    def _start(self) -> dict[str, Any]:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    str(PROCESS),
                    str(theirs.fileno()),
                    str(self._folder / "model"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                cwd=self._folder,
                env=_environment(self._folder),
                start_new_session=True,
            )
        self._state.process = process
        try:
            first = _receive(ours, time.monotonic() + START_SECONDS)
        except BaseException:
            ours.close()
            _kill(process)
            raise
        if "error" in first:
            ours.close()
            _kill(process)
            raise self._unloadable(str(first["error"]))
        self._state.link = ours
        self._state.since = time.monotonic()
        return first

    def _unloadable(self, why: str) -> ArtifactError:
        return ArtifactError(
            f"{self.name} cannot be loaded: {why}",
            remedy="Install what the model needs beside Homeostat, or log it anew.",
        )

    def _lose(self, why: str) -> None:
        state = self._state
        logger.warning("the process of %s is lost: %s", self.name, why)
        if time.monotonic() - state.since > STEADY_SECONDS:
            state.deaths = 0
        state.drop()
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0**state.deaths)
        state.deaths += 1
        again = threading.Thread(
            target=_restart, args=(weakref.ref(self), wait), name="worker", daemon=True
        )
        again.start()


class _State:
    """What of a worker outlives it by a moment: the process and the link to it."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.link: socket.socket | None = None
        self.since = 0.0
        self.deaths = 0

    def drop(self) -> None:
        """End the process."""
        link, process = self.link, self.process
        self.link = None
        if link is not None:
            link.close()
        if process is not None:
            _kill(process)


def _restart(gone: weakref.ref[Worker], wait: float) -> None:
    time.sleep(wait)
    worker = gone()
    if worker is not None:
        worker.revive()


def _end(state: _State, folder: Path) -> None:
    state.drop()
    shutil.rmtree(folder, ignore_errors=True)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, 9)  # a session of its own: its children go with it
    process.wait()


def _environment(folder: Path) -> dict[str, str]:
    """Nothing of ours: no token, no address, no home."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def unpack(files: Mapping[str, Tensor], folder: Path) -> None:
    """Write a model's files below `folder/model`.

    Raises:
        SuspectArtifact: a path that leads elsewhere, too many files, or one that is no bytes.
    """
    if len(files) > MAX_FILES:
        raise refuse(f"The model has {len(files)} files; at most {MAX_FILES} are unpacked.")
    for path, content in files.items():
        parts = path.split("/")
        plain = all(_PART.fullmatch(part) for part in parts) and len(parts) <= MAX_DEPTH
        if not plain or content.dtype != torch.uint8 or content.ndim != 1:
            raise refuse(f"'{path[:128]}' is no file of a model.", file=path[:128])
        target = folder / "model" / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                file.write(content.numpy().tobytes())
        except OSError as error:  # a file where another has its folder
            raise refuse(f"'{path[:128]}' cannot be written: {error.strerror}.") from error


def pack(folder: Path, limit: int) -> dict[str, Tensor]:
    """The files of a model's folder by path, uint8 (bytes,) each.

    Raises:
        SuspectArtifact: links, names that are no plain ones, or more than `limit` bytes.
    """
    from models.stored import read_bounded

    files: dict[str, Tensor] = {}
    left = limit
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        parts = name.split("/")
        if not all(_PART.fullmatch(part) for part in parts) or len(parts) > MAX_DEPTH:
            raise refuse(f"'{name[:128]}' is not a plain name.", file=name[:128])
        if path.is_dir() and not path.is_symlink():
            continue
        content = read_bounded(path, left)
        left -= len(content)
        files[name] = (
            torch.frombuffer(bytearray(content), dtype=torch.uint8)
            if content
            else torch.zeros(0, dtype=torch.uint8)
        )
        if len(files) > MAX_FILES:
            raise refuse(f"The model has more than {MAX_FILES} files.")
    return files


def _packed(values: Values) -> object:
    if isinstance(values, list):
        return values
    return {"kind": values.dtype.str, "data": values.tobytes()}


def _values(answer: Mapping[str, Any]) -> Values:
    """What an answer holds, nothing of it believed.

    Raises:
        LearnerError: it is no values.
    """
    try:
        if "values" in answer:
            return list(answer["values"])
        kind = np.dtype(str(answer["kind"]))
        if kind.kind not in "biuf":
            raise ValueError(f"of kind {kind}")
        return np.frombuffer(answer["data"], kind).reshape([int(n) for n in answer["shape"]])
    except (KeyError, TypeError, ValueError) as error:
        raise LearnerError(f"The model's process answered with no values: {error}.") from error


def _exchange(link: socket.socket, body: bytes, seconds: float) -> dict[str, Any]:
    if len(body) > MAX_FRAME:
        raise LearnerError("The batch is too large.", remedy="Send fewer rows at once.")
    until = time.monotonic() + seconds
    link.settimeout(seconds)
    link.sendall(struct.pack(">I", len(body)) + body)
    return _receive(link, until)


def _receive(link: socket.socket, until: float) -> dict[str, Any]:
    (size,) = struct.unpack(">I", _exactly(link, 4, until))
    if size > MAX_FRAME:
        raise Died(f"it sent a frame of {size} bytes")
    try:
        found = msgspec.msgpack.decode(_exactly(link, size, until), type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Died(f"it sent no frame: {error}") from error
    return found


def _exactly(link: socket.socket, size: int, until: float) -> bytes:
    content = bytearray()
    while len(content) < size:
        left = until - time.monotonic()
        if left <= 0:
            raise Died("it took too long")
        link.settimeout(left)
        try:
            part = link.recv(min(size - len(content), 1024 * 1024))
        except TimeoutError as error:
            raise Died("it took too long") from error
        if not part:
            raise Died("it closed the link")
        content += part
    return bytes(content)
