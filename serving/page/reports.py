"""The reports that the report flow kept in the state folder, and runbooks, as files to show."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from markdown_it import MarkdownIt

from homeostat.settings import Settings
from monitoring.runbooks import RUNBOOKS, runbook_text
from serving.handlers import NotFound

FILES = {
    "drift.html": "text/html; charset=utf-8",
    "timeline.html": "text/html; charset=utf-8",
    "timeline.png": "image/png",
}
MOST = 5
# Evidently's page has scripts of its own: they get an origin that is nobody's, and no network.
REPORT_POLICY = (
    "sandbox allow-scripts allow-popups; default-src 'none'; script-src 'unsafe-inline' "
    "'unsafe-eval'; style-src 'unsafe-inline'; img-src data:; font-src data:"
)
_STAMP = "%Y%m%dT%H%M%S"


@dataclass(frozen=True)
class Report:
    """One report of a model: the name of its folder, when it was made, its files."""

    name: str
    at: datetime
    files: tuple[str, ...]


def reports_of(settings: Settings, model: str) -> tuple[Report, ...]:
    """The newest reports of a model, the newest first."""
    pattern = re.compile(rf"{re.escape(model)}-(\d{{8}}T\d{{6}})")
    folder = settings.state_dir / "reports"
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if hit := pattern.fullmatch(path.name):
            files = tuple(name for name in FILES if (path / name).is_file())
            at = datetime.strptime(hit[1], _STAMP).replace(tzinfo=UTC)
            found.append(Report(path.name, at, files))
    found.sort(key=lambda one: one.at, reverse=True)
    return tuple(found[:MOST])


def report_file(settings: Settings, model: str, report: str, name: str) -> tuple[bytes, str]:
    """A file of a report, and what it is.

    Raises:
        NotFound: there is none.
    """
    kept = re.fullmatch(rf"{re.escape(model)}-\d{{8}}T\d{{6}}", report)
    path = settings.state_dir / "reports" / report / name
    if not kept or name not in FILES or not path.is_file():
        raise NotFound("There is no such report.", remedy="It may have been taken away.")
    return path.read_bytes(), FILES[name]


def runbook_page(name: str) -> str | None:
    """A runbook as HTML, made of its text alone; None where the repository is not here.

    Raises:
        NotFound: there is none of that name.
    """
    if name not in RUNBOOKS:
        raise NotFound("There is no such runbook.", remedy="See docs/runbooks.")
    text = runbook_text(name)
    if text is None:
        return None
    made: str = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    return made
