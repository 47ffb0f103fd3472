"""The guard: a small process that owns all servers, so that none outlives the supervisor.

    homeostat up  --commands-->  guard  --owns-->  MLflow, Prefect, flows, gateway, their children
                  <--reports---

The supervisor talks to it through a pipe, one JSON object a line. When the pipe ends (the
supervisor stopped, or died, by `kill -9` too) the guard ends every process below it. It is a
subreaper (prctl(2)): what loses its parent becomes its child, so sessions and process groups of
their own do not escape it. Its direct children die with it (PR_SET_PDEATHSIG), and the
supervisor is a subreaper as well, for the case that the guard itself is killed.

Standard library only: it starts in milliseconds and stays at a few megabytes.

Commands: {"start": NAME, "argv": [...], "env": {...}, "log": PATH} and {"stop": SECONDS} (ask
the servers to end, then insist). Reports: {"started": NAME, "pid": N} and
{"ended": NAME, "pid": N, "status": N} (negative: the signal that ended it).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

# What servers get to end by themselves when the supervisor died without a word.
SECONDS_AFTER_DEATH = 2.0
_PAUSE = 0.05

_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Adopt every process below this one that loses its parent."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, from /proc; none of them is `pid`."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:  # it ended while we looked
            continue
        # The name in brackets may hold spaces and brackets; the fields follow the last one.
        state, parent = stat.rpartition(")")[2].split()[:2]
        if state != "Z":
            children.setdefault(int(parent), []).append(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def end_all(first: list[int], seconds: float) -> None:
    """End everything below this process: the named ones are asked first, then none is spared.

    Args:
        first: Processes to ask in this order: servers, which end their own children in order.
        seconds: What they get before everything left is killed.
    """
    for pid in first:
        _send(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while descendants(os.getpid()) and time.monotonic() < deadline:
        _reap()
        time.sleep(_PAUSE)
    # A killed process may have started another just before, and its orphans come to us.
    while left := descendants(os.getpid()):
        for pid in left:
            _send(pid, signal.SIGKILL)
        _reap()
        time.sleep(_PAUSE)
    _reap()


class Guard:
    """Owns the servers: starts them, reports their ends, ends them all.

    Args:
        commands: Where the supervisor writes; its end is the supervisor's.
        reports: Where the supervisor reads.
    """

    def __init__(self, commands: int, reports: IO[str]) -> None:
        self._commands = commands
        self._reports = reports
        self._names: dict[int, str] = {}
        self._stopping = False

    def run(self) -> None:
        """Serve commands until the pipe ends, then leave no process behind."""
        wake = _wake_on_child()
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        pending = b""
        seconds = SECONDS_AFTER_DEATH
        while not self._stopping:
            ready, _, _ = select.select([self._commands, wake], [], [])
            if wake in ready:
                os.read(wake, 4096)
                self._report_ends()
            if self._commands in ready:
                received = os.read(self._commands, 65_536)
                if not received:
                    break
                *lines, pending = (pending + received).split(b"\n")
                for line in lines:
                    command = json.loads(line)
                    if "stop" in command:
                        seconds = float(command["stop"])
                        self._stopping = True
                    else:
                        self._start(command)
        # The gateway was started last and leans on the others: it is asked to end first.
        end_all(list(reversed(self._names)), seconds)

    def _start(self, command: dict[str, Any]) -> None:
        name = str(command["start"])
        log = Path(command["log"])
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with log.open("ab") as output:
                process = subprocess.Popen(
                    command["argv"],
                    env=command["env"],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    preexec_fn=die_with_parent,  # this process has one thread, so it is safe
                )
        except OSError as error:
            self._say({"ended": name, "pid": 0, "status": 127, "why": str(error)})
            return
        # We reap by waitpid(-1), orphans too: Popen must not think that it still has to.
        process.returncode = 0
        self._names[process.pid] = name
        self._say({"started": name, "pid": process.pid})

    def _report_ends(self) -> None:
        for pid, status in _reap():
            name = self._names.pop(pid, None)
            if name is not None:
                code = os.waitstatus_to_exitcode(status)
                self._say({"ended": name, "pid": pid, "status": code})

    def _say(self, report: dict[str, Any]) -> None:
        # A dead supervisor cannot read: the end of its pipe will tell us the same.
        with contextlib.suppress(OSError):
            self._reports.write(json.dumps(report) + "\n")
            self._reports.flush()

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._stopping = True


def _wake_on_child() -> int:
    """A descriptor that becomes readable when any child ends."""
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    return readable


def _reap() -> list[tuple[int, int]]:
    ended: list[tuple[int, int]] = []
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended.append((pid, status))
    return ended


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def main() -> None:
    """Guard what the process at the other end of standard input orders."""
    become_subreaper()
    Guard(sys.stdin.fileno(), sys.stdout).run()


if __name__ == "__main__":
    main()
