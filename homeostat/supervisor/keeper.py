"""The supervisor's end of the pipe to the guard (homeostat/guard.py)."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homeostat.errors import StartError
from homeostat.guard import become_subreaper, end_all


@dataclass(frozen=True)
class Ended:
    """A server that ended: `status` is its exit status, negative the signal that ended it."""

    name: str
    status: int
    why: str = ""


class Keeper:
    """Starts servers through the guard and hears of their ends.

    Args:
        hold: Descriptors that the guard keeps open while it lives: the lock of the state folder.
    """

    def __init__(self, hold: Sequence[int] = ()) -> None:
        # Should the guard be killed, its orphans come to us and `close` ends them.
        become_subreaper()
        self._guard = subprocess.Popen(
            [sys.executable, "-P", "-m", "homeostat.guard"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C at the terminal is the supervisor's to answer
            pass_fds=tuple(hold),
        )
        assert self._guard.stdin is not None
        assert self._guard.stdout is not None
        self._commands = self._guard.stdin
        self._reports = self._guard.stdout.fileno()
        self._pending = b""
        self.pids: dict[str, int] = {}

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        """Order one server; what it prints goes to `log`."""
        self._order({"start": name, "argv": list(argv), "env": dict(env), "log": str(log)})

    def wait(self, seconds: float, wake: int) -> list[Ended]:
        """Wait until something ends, `wake` is readable, or the time is over.

        Raises:
            StartError: the guard itself ended.
        """
        ready, _, _ = select.select([self._reports, wake], [], [], seconds)
        if self._reports not in ready:
            return []
        received = os.read(self._reports, 65_536)
        if not received:
            raise StartError("The guard of the servers ended.", remedy="Run `homeostat up` again.")
        *lines, self._pending = (self._pending + received).split(b"\n")
        ended: list[Ended] = []
        for line in lines:
            report = json.loads(line)
            if "started" in report:
                self.pids[report["started"]] = report["pid"]
            else:
                self.pids.pop(report["ended"], None)
                ended.append(Ended(report["ended"], report["status"], report.get("why", "")))
        return ended

    def close(self, seconds: float) -> None:
        """End all servers: asked first, then killed; returns when none is left."""
        with contextlib.suppress(StartError):
            self._order({"stop": seconds})
        with contextlib.suppress(OSError):
            self._commands.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.wait(seconds + 5.0)
        end_all([], 0.0)

    def _order(self, command: dict[str, Any]) -> None:
        try:
            self._commands.write(json.dumps(command).encode() + b"\n")
            self._commands.flush()
        except OSError as error:
            raise StartError(
                f"The guard of the servers does not listen: {error}.",
                remedy="Run `homeostat up` again.",
            ) from None
