"""The process that looks at the rows behind an incident, and what it draws of them."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from homeostat.clock import utc_now
from homeostat.policy import Policy
from monitoring.cells import Cell
from monitoring.explaining import Shift
from registry.database import connect, sessions
from registry.explanation_words import in_words
from registry.explanations import Explanation, Look, Watched, explain
from registry.incidents import find_incident, unknown_incident
from registry.versions import MlflowVersions
from registry.watched import read_watched
from serving.page.chart import Course, course_of
from serving.page.rendering import rendered

MOST_SHIFTS = 4  # that are drawn
MOST_BINS = 6  # of each
LEAST = 0.02  # change of a bin's share that is drawn
MOST_CELLS = 3  # parts of the rows where the loss grew most
NICE = 5  # after the gateway; a third of a busy core's turns, not none


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


def main() -> None:
    """Read what is asked, and write what is found as HTML."""
    os.nice(NICE)
    print(rendered("evidence.html.j2", evidence=evidence_view(json.load(sys.stdin))))


if __name__ == "__main__":
    main()
