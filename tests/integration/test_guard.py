from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

# A server that writes its own pid and, in a session of its own, starts one that ignores SIGTERM.
SERVER = """
import os, signal, subprocess, sys, time
inner = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-S", "-c", inner], start_new_session=True)
open(sys.argv[1], "w").write(f"{os.getpid()} {child.pid}\\n")
time.sleep(600)
"""


def wait_for(holds: Callable[[], bool], what: str, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"no {what} in {seconds} s"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Guarded:
    """A guard as its supervisor sees it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "homeostat.guard"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def order(self, **command: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        report: dict[str, Any] = json.loads(self.process.stdout.readline())
        return report

    def start(self, name: str, code: str, *arguments: str) -> dict[str, Any]:
        argv = [sys.executable, "-S", "-c", code, *arguments]
        log = str(self.folder / f"{name}.log")
        self.order(start=name, argv=argv, env={"PATH": os.environ["PATH"]}, log=log)
        return self.hear()

    def start_family(self) -> list[int]:
        """A server and its child in another session; answers both pids."""
        pids = self.folder / "pids"
        self.start("server", SERVER, str(pids))
        wait_for(lambda: pids.exists() and pids.read_text().endswith("\n"), "pids")
        return [int(word) for word in pids.read_text().split()]


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    # What runs already is not ours to end: servers that other tests share.
    others = {child.pid for child in psutil.Process().children(recursive=True)}
    guard = Guarded(tmp_path)
    yield guard
    ours = {child.pid for child in psutil.Process().children(recursive=True)} - others
    for pid in ours:
        if pid != guard.process.pid and alive(pid):
            os.kill(pid, signal.SIGKILL)
    guard.process.kill()
    guard.process.wait()


def test_reports_what_started_and_how_it_ended(guarded: Guarded) -> None:
    started = guarded.start("short", "print('hello'); raise SystemExit(7)")
    assert started["started"] == "short"
    assert guarded.hear() == {"ended": "short", "pid": started["pid"], "status": 7}
    assert (guarded.folder / "short.log").read_text() == "hello\n"


def test_a_command_that_is_not_there_ends_with_its_reason(guarded: Guarded) -> None:
    guarded.order(start="none", argv=["/nowhere"], env={}, log=str(guarded.folder / "none.log"))
    report = guarded.hear()
    assert (report["ended"], report["status"]) == ("none", 127)
    assert "/nowhere" in report["why"]


def test_leaves_nothing_when_the_supervisors_end_of_the_pipe_closes(guarded: Guarded) -> None:
    pids = guarded.start_family()
    assert guarded.process.stdin is not None
    guarded.process.stdin.close()
    wait_for(lambda: not any(alive(pid) for pid in pids), "end of all servers")
    assert guarded.process.wait(5) == 0


def test_a_stop_asks_first_and_then_insists(guarded: Guarded) -> None:
    pids = guarded.start_family()
    began = time.monotonic()
    guarded.order(stop=0.5)
    wait_for(lambda: not any(alive(pid) for pid in pids), "end of all servers")
    assert guarded.process.wait(5) == 0
    assert time.monotonic() - began > 0.5  # the one that ignores SIGTERM had its time


def test_an_orphan_of_a_dead_server_does_not_escape(guarded: Guarded) -> None:
    server, child = guarded.start_family()
    os.kill(server, signal.SIGKILL)
    assert guarded.hear()["status"] == -signal.SIGKILL
    assert alive(child)
    guarded.order(stop=0.1)
    wait_for(lambda: not alive(child), "end of the orphan")


def test_servers_die_with_a_killed_guard(guarded: Guarded) -> None:
    server, _child = guarded.start_family()
    guarded.process.kill()
    wait_for(lambda: not alive(server), "end of the server")
