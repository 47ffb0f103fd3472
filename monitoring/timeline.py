"""What happened to a model over a stretch of time: one picture, one page."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

TEMPLATE = "timeline.html.j2"


@dataclass(frozen=True)
class AccuracyPoint:
    """Accuracy (1 - mean loss) of a version over `n` labels around `at`, with its interval."""

    at: datetime
    n: int
    mean: float
    low: float
    high: float
    version: int


@dataclass(frozen=True)
class EvidencePoint:
    """A detector's log evidence at a moment, and the log threshold it is held against.

    Points of one detector and one `version` are one line; 0 where there is no version.
    """

    at: datetime
    detector: str
    value: float
    threshold: float
    version: int = 0


@dataclass(frozen=True)
class SharePoint:
    """From `at` on, `version` answers this share of the traffic.

    Points of the same `at` are one split: a version that a split does not name answers nothing.
    """

    at: datetime
    version: int
    share: float


@dataclass(frozen=True)
class Mark:
    """Something that happened.

    Args:
        at: When.
        kind: `incident`, `resolved`, `version`, `rollback`, `rollout` or `retrain`; others are
            drawn plainly.
        text: A few words, for the picture.
        detail: The whole of it, for the page; empty where `text` says all.
    """

    at: datetime
    kind: str
    text: str
    detail: str = ""


@dataclass(frozen=True)
class IncidentNote:
    """An incident as the page tells it: `story` is what was noted when, `undo` a command."""

    opened_at: datetime
    resolved_at: datetime | None
    severity: str
    state: str
    title: str
    story: tuple[tuple[datetime, str], ...] = ()
    undo: str = ""


@dataclass(frozen=True)
class ReleaseNote:
    """A version's time in one role: since when, until when (None: still), and why it ended."""

    role: str
    since: datetime
    until: datetime | None
    why: str
    ended_why: str


@dataclass(frozen=True)
class VersionNote:
    """What a version answered within the timeline, how well, and its releases."""

    version: int
    answers: int
    labels: int
    accuracy: float | None
    releases: tuple[ReleaseNote, ...] = ()


@dataclass(frozen=True)
class LedgerLine:
    """One routing of the ledger, in words."""

    generation: int
    at: datetime
    roles: str
    actor: str
    reason: str


@dataclass(frozen=True)
class Timeline:
    """All that is drawn and told of one model.

    Args:
        model: Its name.
        start: Left end, in UTC.
        end: Right end, after `start`.
        accuracy: In order of time.
        evidence: In order of time, detectors mixed.
        shares: In order of time.
        marks: Incidents, versions and what was done.
        figures: Name and value, as they are to be read.
        summary: What happened, in a sentence or two.
        incidents: In order of time.
        versions: In order of number.
        ledger: In order of time.
        immature: Of what was predicted from then on a part of the labels lacks; None: of nothing.
    """

    model: str
    start: datetime
    end: datetime
    accuracy: list[AccuracyPoint] = field(default_factory=list)
    evidence: list[EvidencePoint] = field(default_factory=list)
    shares: list[SharePoint] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    figures: list[tuple[str, str]] = field(default_factory=list)
    summary: str = ""
    incidents: list[IncidentNote] = field(default_factory=list)
    versions: list[VersionNote] = field(default_factory=list)
    ledger: list[LedgerLine] = field(default_factory=list)
    immature: datetime | None = None


def draw(timeline: Timeline, png_path: str | os.PathLike[str]) -> None:
    """Draw the timeline as a PNG: accuracy, evidence and traffic over one axis of time.

    Nothing depends on colour alone: versions differ in marker and hatching, detectors in dash
    pattern, and both are named where they stand.

    Args:
        timeline: What to draw; any of its lists may be empty.
        png_path: The file; its folder is made.
    """
    from monitoring.drawing import render

    path = Path(png_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(render(timeline))


def write_page(timeline: Timeline, html_path: str | os.PathLike[str]) -> None:
    """Write the timeline as one HTML file that needs nothing else.

    It holds the picture four times: for a light and a dark page, for a desk and a phone.

    Args:
        timeline: What to tell.
        html_path: The file; its folder is made.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from monitoring.drawing import render
    from monitoring.looks import LOOKS

    environment = Environment(
        loader=PackageLoader("monitoring"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(TEMPLATE).render(
        timeline=timeline,
        pictures={
            name: base64.b64encode(render(timeline, look)).decode("ascii")
            for name, look in LOOKS.items()
        },
        marks=sorted(timeline.marks, key=lambda mark: mark.at),
        when=when,
    )
    path = Path(html_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def when(timeline: Timeline) -> str:
    """The stretch of time in words, with seconds where it is short."""
    start, end = timeline.start, timeline.end
    clock = "%H:%M:%S" if (end - start).total_seconds() < 7200 else "%H:%M"
    day = "" if start.date() == end.date() else "%d %b %Y, "
    return f"{start:%d %b %Y, {clock}} to {end:{day}{clock}} UTC"


def splits(timeline: Timeline) -> list[tuple[datetime, datetime, dict[int, float]]]:
    """The traffic as stretches: from, to, and the share of each version."""
    by_time: dict[datetime, dict[int, float]] = {}
    for point in timeline.shares:
        by_time.setdefault(point.at, {})[point.version] = point.share
    times = sorted(by_time)
    if not times:
        return []
    ends = [*times[1:], max(timeline.end, times[-1])]
    return [
        (max(at, timeline.start), end, by_time[at])
        for at, end in zip(times, ends, strict=True)
        if end > timeline.start
    ]
