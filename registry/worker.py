"""A pyfunc model in a process of its own: started, asked over a socket, started again when it dies.

The process is given its files, unpacked from the verified artifact, and nothing else: no token, no
address, no variable of ours. Where it comes back it has to answer its golden rows as when it was
judged before it answers anybody: what it reads on this machine may have changed meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from homeostat.errors import ArtifactError, HomeostatError, LearnerError, Unavailable
from models.pyfunc import Apart
from models.pyfunc_columns import Values
from registry.frames import Died, exchange, receive
from registry.packed import unpack

START_SECONDS = 180.0  # importing MLflow and what the model needs, on a busy machine
ASK_SECONDS = 10.0  # for one batch
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # before it is started again
STEADY_SECONDS = 60.0  # it has to answer so long before a death counts as the first again
PROCESS = Path(__file__).with_name("pyfunc_process.py")
STAYS_ROOT = (
    "Python is not readable by everybody and no mount namespace can be made here. Run the gateway"
    " as a user of its own."
)

logger = logging.getLogger(__name__)


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
        self.user = ""
        self._seconds = seconds
        self._lock = threading.Lock()
        self._folder = Path(tempfile.mkdtemp(prefix="homeostat-worker-"))
        self._state = _State()
        self._end = weakref.finalize(self, _end, self._state, self._folder)
        try:
            unpack(files, self._folder)
            link, first = self._start()
        except Died as error:
            self.close()
            raise self._unloadable(f"its process ended: {error}") from error
        except BaseException:
            self.close()
            raise
        self.classes = list(first.get("classes", ()))
        self.user = str(first.get("user", ""))
        if self.user == "root":
            logger.warning("%s runs as root: %s", name, STAYS_ROOT)
        self._open(link)

    def close(self) -> None:
        """End the process and remove its files; also done when nobody holds this any more."""
        self._end()

    @property
    def pid(self) -> int:
        """Of the process as it is now."""
        process = self._state.process
        return process.pid if process else 0

    def ask(self, columns: Mapping[str, Values], tensor: str) -> Values:
        """As `Apart.ask`.

        Raises:
            ArtifactError: it came back as another model than was judged, and was taken out.
        """
        with self._lock:
            if self.fault:
                raise ArtifactError(
                    f"The process of {self.name} was started again and is another model now:"
                    f" {self.fault}",
                    remedy="Roll back; then see what changed on this machine that it reads.",
                )
            link = self._state.link
            if link is None:
                raise Unavailable(
                    f"The process of {self.name} is being started again.",
                    remedy="Try again in some seconds.",
                )
            try:
                return exchange(link, columns, tensor, self._seconds)
            except Died as error:
                self._lose(str(error))
                raise LearnerError(
                    f"The process of {self.name} ended while it answered: {error}.",
                    remedy="It is started again by itself; look at the rows if it ends again.",
                ) from error

    def revive(self) -> None:
        """Start the process again and let it prove itself, unless this was closed meanwhile."""
        if self._end.alive:
            try:
                link, _ = self._start()
            except (Died, OSError, ArtifactError) as error:
                self._lose(str(error))
                return
            if self._is_proven(link):
                self._open(link)
                logger.info("the process of %s answers again", self.name)
        if not self._end.alive:  # closed while it started
            self._state.drop()

    def _is_proven(self, link: socket.socket) -> bool:
        """Whether what came back answers its proof; else it is tried again, or never again."""
        try:
            if self.proof is not None:
                self.proof(_Returned(link, self._seconds))
        except ArtifactError as error:
            logger.error("the process of %s is taken out: %s", self.name, error.message)
            self.fault = error.message
            link.close()
            self._state.drop()
        except HomeostatError as error:
            link.close()
            self._lose(error.message)
        else:
            return True
        return False

    def _open(self, link: socket.socket) -> None:
        self._state.link = link
        self._state.since = time.monotonic()

    def _start(self) -> tuple[socket.socket, dict[str, Any]]:
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
            first = receive(ours, time.monotonic() + START_SECONDS)
        except BaseException:
            ours.close()
            _kill(process)
            raise
        if "error" in first:
            ours.close()
            _kill(process)
            raise self._unloadable(str(first["error"]))
        return ours, first

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


class _Returned(Apart):
    """A process that was started again, as only its proof may ask it."""

    def __init__(self, link: socket.socket, seconds: float) -> None:
        super().__init__({})
        self._link, self._seconds = link, seconds

    def ask(self, columns: Mapping[str, Values], tensor: str) -> Values:
        """As `Apart.ask`."""
        try:
            return exchange(self._link, columns, tensor, self._seconds)
        except Died as error:
            raise LearnerError(f"It ended while it was proven: {error}.") from error


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
