"""A server under measurement: started on a core of its own, its CPU counted, always ended."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 90.0
END_SECONDS = 20.0
REST_SECONDS = 20.0
LOOK_SECONDS = 0.5
IDLE_SHARE = 0.2  # of a core; more means that it still starts


class NotStarted(Exception):
    """A server did not come up: the last of what it said."""


def cores() -> tuple[int, int]:
    """The core for the server and the core for the client.

    Raises:
        SystemExit: this machine cannot pin a process to one of two cores.
    """
    if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2:
        raise SystemExit(
            "The benchmark pins the server to one core and the client to another: "
            "run it on Linux, with two cores at least."
        )
    server, client, *_ = sorted(os.sched_getaffinity(0))
    return server, client


@contextmanager
def running(
    command: list[str], port: int, ready: str, core: int, environment: dict[str, str]
) -> Iterator[psutil.Process]:
    """A server on one core, all of its processes; ended at the end of the block.

    Raises:
        NotStarted: it ended, or did not answer at `ready` in time.
    """
    with tempfile.TemporaryFile() as log:
        process = spawn(command, core, environment, log.fileno())
        try:
            address = f"http://127.0.0.1:{port}{ready}"
            wait_until(lambda: process.poll() is not None or answers(address), START_SECONDS)
            if not answers(address):
                log.seek(0)
                raise NotStarted(log.read().decode(errors="replace")[-3000:])
            yield psutil.Process(process.pid)
        finally:
            end(process)


def spawn(
    command: list[str], core: int, environment: dict[str, str], log: int
) -> subprocess.Popen[bytes]:
    """Start a command on a core: it and all that it starts inherit where it may run."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        return subprocess.Popen(
            command, cwd=ROOT, env=os.environ | environment, stdout=log, stderr=log
        )
    finally:
        os.sched_setaffinity(0, mine)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a server to end, and end what is left of it and of its children by their ids."""
    family = tree(process.pid)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)
    for left in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    process.wait(END_SECONDS)
    psutil.wait_procs(family, END_SECONDS)


def rest(process: psutil.Process) -> None:
    """Wait until a server that has come up is done with its start, for so long at most."""
    deadline = time.monotonic() + REST_SECONDS
    while time.monotonic() < deadline:
        before = cpu_seconds(process)
        time.sleep(LOOK_SECONDS)  # idle is to use little CPU in a stretch of time: this one
        if cpu_seconds(process) - before < IDLE_SHARE * LOOK_SECONDS:
            return


def tree(pid: int) -> list[psutil.Process]:
    """A process and all of its descendants; empty where it is gone."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time so far of a process and its descendants, all of their threads."""
    spent = 0.0
    for each in tree(process.pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            spent += times.user + times.system
    return spent


def wait_until(holds: Callable[[], bool], seconds: float, every: float = 0.2) -> bool:
    """Look now and then whether something holds, for so long at most; whether it does."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)  # nothing tells of an outside process coming up: it is looked at
    return True


def answers(url: str) -> bool:
    """Whether something answers 2xx at an address."""
    try:
        return httpx.get(url, timeout=1.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False
