"""The supervisor: brings the servers up in parallel, watches them, ends them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from homeostat.clock import utc_now
from homeostat.errors import StartError
from homeostat.settings import Settings
from homeostat.supervisor.events import Event, Tell
from homeostat.supervisor.keeper import Ended, Keeper
from homeostat.supervisor.parts import Part, parts, ports
from homeostat.supervisor.ports import check_port
from homeostat.supervisor.state import (
    UpState,
    lock_state_dir,
    remove_state,
    this_process,
    write_state,
)

START_SECONDS = 180.0  # a first start on a busy machine takes a minute
STOP_SECONDS = 8.0
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
# A server that has run so long has earned a fresh start of its back-off.
STEADY_SECONDS = 60.0
_TICK = 0.1
_LOG_BYTES = 10 * 1024 * 1024
_LOG_LINES = 12


@dataclass
class _Run:
    """What the supervisor knows of one part."""

    part: Part
    since: datetime | None = None  # when it was last started
    began: float = 0.0  # the same on the monotonic clock
    ready: bool = False
    pause: float = FIRST_PAUSE
    due: float | None = None  # when to start it again, on the monotonic clock


class Supervisor:
    """Runs the servers of one state folder until told to stop.

    Args:
        settings: What to run, where.
        tell: Hears of everything that happens.
        base: The environment that the servers start from.
    """

    def __init__(self, settings: Settings, tell: Tell, base: Mapping[str, str]) -> None:
        self._settings = settings
        self._tell = tell
        self._state_dir = settings.state_dir.resolve()
        self._runs = {part.name: _Run(part) for part in parts(settings, base)}
        self._began = time.monotonic()
        self._stop = False
        self._wake = -1

    def run(self) -> None:
        """Start, watch, and stop at SIGTERM, SIGINT or SIGHUP; nothing is left afterwards.

        Raises:
            StartError: a port is taken, another supervisor runs here, or a server did not come
                up; what had been started is ended again.
        """
        self._began = time.monotonic()
        with lock_state_dir(self._state_dir) as lock, self._signals():
            for port, part in ports(self._settings).items():
                check_port(self._settings.host, port, part.port_setting)
            # The gateway's token: made before anyone can ask for it twice.
            self._settings.secret_token()
            keeper = Keeper(hold=[lock.fileno()])
            try:
                self._bring_up(keeper)
                if not self._stop:
                    self._tell(Event("up", seconds=self._elapsed()))
                while not self._stop:
                    self._watch(keeper, keeper.wait(1.0, self._wake))
            finally:
                self._tell(Event("stopping", seconds=self._elapsed()))
                keeper.close(STOP_SECONDS)
                remove_state(self._state_dir)

    def _bring_up(self, keeper: Keeper) -> None:
        write_state(self._state_dir, self._state(keeper, ready=False))
        deadline = self._began + START_SECONDS
        while not self._stop and not all(run.ready for run in self._runs.values()):
            for run in self._runs.values():
                if run.since is None and all(self._runs[name].ready for name in run.part.after):
                    self._start(keeper, run)
            for ended in keeper.wait(_TICK, self._wake):
                self._take_end_of_start(ended)
            for run in self._runs.values():
                self._probe(run)
            if time.monotonic() > deadline:
                self._give_up()
        if not self._stop:
            write_state(self._state_dir, self._state(keeper, ready=True))

    def _start(self, keeper: Keeper, run: _Run) -> None:
        run.since, run.began, run.due = utc_now(), time.monotonic(), None
        part = run.part
        if part.ours:
            log = part.log(self._state_dir)
            _rotate(log)
            keeper.start(part.name, part.argv, part.env, log)
            self._tell(Event("starting", part.name, part.address, seconds=self._elapsed()))

    def _probe(self, run: _Run) -> None:
        if not run.ready and run.since is not None and run.part.ready(run.since):
            self._mark_ready(run)

    def _mark_ready(self, run: _Run) -> None:
        run.ready = True
        self._tell(Event("ready", run.part.name, run.part.address, seconds=self._elapsed()))

    def _take_end_of_start(self, ended: Ended) -> None:
        run = self._runs[ended.name]
        if run.part.once and ended.status == 0:
            self._mark_ready(run)
            return
        if self._stop:
            return
        log = run.part.log(self._state_dir)
        lines = ended.why.splitlines() or last_lines(log, _LOG_LINES)
        because = (
            f": {lines[-1].removeprefix('homeostat: ').strip().rstrip('.')}." if lines else "."
        )
        raise StartError(
            f"{ended.name} {_how(ended.status)} while it started{because}",
            remedy=f"Its log says more: {log}",
            part=ended.name,
            log_lines=lines,
        )

    def _give_up(self) -> None:
        late = next(run.part for run in self._runs.values() if not run.ready)
        if late.ours:
            log = late.log(self._state_dir)
            raise StartError(
                f"{late.name} is not ready after {START_SECONDS:.0f} s.",
                remedy=f"Its log says more: {log}",
                part=late.name,
                log_lines=last_lines(log, _LOG_LINES),
            )
        raise StartError(
            f"{late.name} at {late.address} does not answer.",
            remedy=f"Start it, or empty {late.name}_url so that `up` starts one here.",
            part=late.name,
        )

    def _watch(self, keeper: Keeper, ends: list[Ended]) -> None:
        now = time.monotonic()
        for ended in ends:
            run = self._runs[ended.name]
            if run.part.once or self._stop:
                continue
            if now - run.began > STEADY_SECONDS:
                run.pause = FIRST_PAUSE
            run.ready, run.due = False, now + run.pause
            again = f"{_how(ended.status)}, started again in {run.pause:.0f} s"
            self._tell(Event("ended", ended.name, again, seconds=self._elapsed()))
            run.pause = min(run.pause * 2, LONGEST_PAUSE)
        for run in self._runs.values():
            if run.due is not None and now >= run.due:
                self._start(keeper, run)
            elif run.part.ours and run.due is None:
                self._probe(run)
        if ends:
            write_state(self._state_dir, self._state(keeper, ready=True))

    def _state(self, keeper: Keeper, *, ready: bool) -> UpState:
        addresses = {name: run.part.address for name, run in self._runs.items() if run.part.address}
        return replace(
            this_process(self._state_dir), ready=ready, addresses=addresses, pids=dict(keeper.pids)
        )

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn the signals to stop into a flag and a readable descriptor."""
        self._wake, writable = os.pipe()
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

        def stop(_number: int, _frame: object) -> None:
            self._stop = True
            os.write(writable, b"x")

        before = {number: signal.signal(number, stop) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self._wake)
            os.close(writable)


def last_lines(log: Path, count: int) -> list[str]:
    """The last lines of a log that are not empty."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 16_384))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]


def _rotate(log: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))


def _how(status: int) -> str:
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"
