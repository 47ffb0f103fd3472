"""What moved in the rows behind an incident: looked for in a process of its own, and kept.

It reads thousands of rows and takes seconds of a core, which callers of predictions would wait
for: so it is done outside of the gateway, at low priority, one at a time, once for each state that
an incident is in. It is what `homeostat explain` tells, with pictures.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from homeostat.clock import utc_now
from homeostat.errors import Unavailable
from homeostat.policy import Policy
from monitoring.cells import Cell
from monitoring.explaining import Shift
from registry.database import connect, sessions
from registry.explanation_words import in_words
from registry.explanations import Explanation, Look, Watched, explain
from registry.incidents import Incident, find_incident, unknown_incident
from registry.versions import MlflowVersions
from registry.watched import read_watched
from serving.gateway import Gateway
from serving.page.chart import Course, course_of
from serving.page.rendering import rendered

MOST_SHIFTS = 4  # that are drawn
MOST_BINS = 6  # of each
LEAST = 0.02  # change of a bin's share that is drawn
MOST_CELLS = 3  # parts of the rows where the loss grew most
SECONDS = 120.0  # that a look may take
KEPT = 64  # looks
WAITING = 16  # looks, at most
NICE = 10

State = tuple[str, str, int]


@dataclass(frozen=True)
class Bar:
    """A bin's share before and after."""

    name: str
    before: float
    after: float


@dataclass(frozen=True)
class Moved:
    """How one column, or the loss, changed: as it is drawn; of a loss, where it grew most."""

    shift: Shift
    bars: tuple[Bar, ...]
    course: Course | None
    cells: tuple[Cell, ...] = ()


@dataclass(frozen=True)
class EvidenceView:
    """What was found in the rows behind an incident: in words, and drawn."""

    now: datetime
    words: tuple[str, ...]
    moved: tuple[Moved, ...]


class Looks:
    """Looks at the rows behind incidents, and what they found.

    Who asks for what is looked for already waits for the same look, on no thread.

    Args:
        gateway: Whose incidents.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._turn = asyncio.Semaphore(1)
        self._under_way: dict[State, asyncio.Task[str]] = {}
        self._kept: dict[State, str] = {}

    def known(self, incident: Incident) -> str | None:
        """What was found, as HTML, if it was looked for since the incident last changed."""
        return self._kept.get(_state(incident))

    async def look(self, incident: Incident) -> str:
        """What there is to find, as HTML.

        Raises:
            Unavailable: the look failed, took too long, or too many wait.
        """
        state = _state(incident)
        if (found := self._kept.get(state)) is not None:
            return found
        task = self._under_way.get(state)
        if task is None:
            if len(self._under_way) >= WAITING:
                raise Unavailable("Too many incidents are looked at.", remedy="Ask again later.")
            task = asyncio.create_task(self._ask(incident))
            self._under_way[state] = task
            task.add_done_callback(lambda _: self._under_way.pop(state))
        return await asyncio.shield(task)  # who goes away ends it for nobody else

    async def _ask(self, incident: Incident) -> str:
        settings = self._gateway.settings
        asked = {
            "incident": incident.id,
            "database": settings.database,
            "versions": str((settings.state_dir / "versions").resolve()),
            "mlflow": settings.mlflow_address,
            "policy": settings.policy(incident.model).model_dump(mode="json"),
        }
        async with self._turn:
            try:
                found = await _in_a_process(json.dumps(asked).encode())
            except (OSError, TimeoutError, RuntimeError) as error:
                raise Unavailable(
                    f"The rows could not be looked at: {error or 'it took too long'}.",
                    remedy=f"Ask on the command line: homeostat explain {incident.id}",
                ) from error
        while len(self._kept) >= KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[_state(incident)] = found
        return found


async def _in_a_process(asked: bytes) -> str:
    """What `main` writes when it reads this.

    Raises:
        OSError, TimeoutError, RuntimeError: it could not begin, took too long, or failed.
    """
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "serving.page.evidence", stdin=pipe, stdout=pipe, stderr=pipe
    )
    try:
        found, said = await asyncio.wait_for(process.communicate(asked), SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        last = said.decode(errors="replace").strip().splitlines()[-1:]
        raise RuntimeError(*last)
    return found.decode()


def evidence_view(asked: dict[str, Any]) -> EvidenceView:
    """Look at the rows behind an incident.

    Args:
        asked: `incident`, its id; `database`; `versions`, the folder; `mlflow`; `policy`.

    Raises:
        InputError: there is no such incident.
        Unavailable: the database is away.
    """
    policy = Policy.model_validate(asked["policy"])
    maker = sessions(connect(asked["database"]), read_only=True)
    with contextlib.closing(MlflowVersions(asked["mlflow"])) as store, maker() as session:

        def read(model: str, version: int) -> Watched:
            return read_watched(store, Path(asked["versions"]), policy, model, version)

        found = find_incident(session, asked["incident"])
        if found is None:
            raise unknown_incident(asked["incident"])
        explanation = explain(session, found, read, utc_now())
    return EvidenceView(utc_now(), tuple(in_words(explanation)[2:]), _moved(explanation))


def _moved(explanation: Explanation) -> tuple[Moved, ...]:
    """The clearest changes: of the loss first, then of columns."""
    found = [
        Moved(shift, _bars(shift), course_of(shift), _cells(look) if shift.mean else ())
        for look in explanation.looks
        for shift in look.shifts
        if shift.named
    ]
    found.sort(key=lambda one: one.shift.mean is None)
    return tuple(found[:MOST_SHIFTS])


def _bars(shift: Shift) -> tuple[Bar, ...]:
    """The bins that moved most, in their own order."""
    moved = sorted(shift.bins, key=lambda one: -abs(one.after - one.before))[:MOST_BINS]
    kept = {one.name for one in moved if abs(one.after - one.before) >= LEAST}
    return tuple(Bar(one.name, one.before, one.after) for one in shift.bins if one.name in kept)


def _cells(look: Look) -> tuple[Cell, ...]:
    """Where the loss grew most, as far as that is shown."""
    return tuple(cell for cell in look.cells or () if cell.shown)[:MOST_CELLS]


def _state(incident: Incident) -> State:
    return incident.id, incident.state, len(incident.events)


def main() -> None:
    """Read what is asked, and write what is found as HTML."""
    os.nice(NICE)
    print(rendered("evidence.html.j2", evidence=evidence_view(json.load(sys.stdin))))


if __name__ == "__main__":
    main()
