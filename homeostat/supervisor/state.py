"""What runs, on disk: `up.json` says who, `up.lock` makes it one supervisor per state folder."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

import psutil

from homeostat.errors import StartError

# How long the guard of a killed supervisor may still be ending its servers.
LOCK_SECONDS = 15.0


@dataclass(frozen=True)
class UpState:
    """One supervisor and what it runs.

    Args:
        pid: The supervisor's process.
        born: When that process began, seconds since 1970: with `pid` it names one process.
        ready: Whether everything answered.
        addresses: Where each part answers, by its name.
        pids: The process of each part that it started itself.
        state_dir: The state folder, absolute.
    """

    pid: int
    born: float
    ready: bool
    addresses: dict[str, str] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)
    state_dir: str = ""

    def is_alive(self) -> bool:
        """Whether that very process still runs (not another one with its number)."""
        return _born(self.pid) == self.born


def this_process(state_dir: Path) -> UpState:
    """The state of the process that calls, nothing started yet."""
    pid = os.getpid()
    return UpState(pid=pid, born=_born(pid) or 0.0, ready=False, state_dir=str(state_dir))


def read_state(state_dir: Path) -> UpState | None:
    """What `up.json` says; None where there is none or it is unreadable."""
    try:
        return UpState(**json.loads((state_dir / "up.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write_state(state_dir: Path, state: UpState) -> None:
    """Replace `up.json` in one step."""
    path = state_dir / "up.json"
    fresh = path.with_suffix(".json.new")
    fresh.write_text(json.dumps(asdict(state), indent=2) + "\n")
    fresh.replace(path)


def remove_state(state_dir: Path) -> None:
    """Forget what ran."""
    with contextlib.suppress(FileNotFoundError):
        (state_dir / "up.json").unlink()


def lock_state_dir(state_dir: Path) -> IO[bytes]:
    """Hold the state folder as long as the file returned, or a copy of it, is open.

    Raises:
        StartError: another supervisor holds it, or the folder cannot be written.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        file = (state_dir / "up.lock").open("ab")
    except OSError as error:
        raise StartError(
            f"The state folder {state_dir} cannot be written: {error.strerror}.",
            remedy="Set state_dir (HOMEOSTAT_STATE_DIR) to a folder that can.",
        ) from None
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = read_state(state_dir)
            # A dead holder's guard lets go as soon as it has ended the servers.
            if time.monotonic() < deadline and not (holder and holder.is_alive()):
                time.sleep(0.1)
                continue
            file.close()
            who = f" (process {holder.pid})" if holder else ""
            raise StartError(
                f"Homeostat is already up{who} with the state folder {state_dir}.",
                remedy="Run `homeostat down` first, or set another state_dir and other ports.",
            ) from None
        return file


def _born(pid: int) -> float | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None
