"""What happened to a model over a stretch of time: one picture, one page."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

TEMPLATE = "timeline.html.j2"


@dataclass(frozen=True)
class AccuracyPoint:
    """Accuracy (1 - mean loss) of a version over its `n` labels up to `at`, with its interval."""

    at: datetime
    n: int
    mean: float
    low: float
    high: float
    version: int


@dataclass(frozen=True)
class EvidencePoint:
    """A detector's log evidence at a moment, and the log threshold it is held against."""

    at: datetime
    detector: str
    value: float
    threshold: float


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
        kind: `incident`, `resolved`, `version`, `rollback` or `retrain`; others are drawn plainly.
        text: A few words.
    """

    at: datetime
    kind: str
    text: str


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
    """

    model: str
    start: datetime
    end: datetime
    accuracy: list[AccuracyPoint] = field(default_factory=list)
    evidence: list[EvidencePoint] = field(default_factory=list)
    shares: list[SharePoint] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    figures: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class VersionRow:
    """A version as the page tells it."""

    version: int
    first: datetime
    last: datetime
    labels: int
    accuracy: float | None
    top_share: float


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
    """Write the timeline as one HTML file that needs nothing else: picture, figures, tables.

    Args:
        timeline: What to tell.
        html_path: The file; its folder is made.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from monitoring.drawing import render

    environment = Environment(
        loader=PackageLoader("monitoring"), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template(TEMPLATE).render(
        timeline=timeline,
        picture=base64.b64encode(render(timeline)).decode("ascii"),
        versions=versions(timeline),
        marks=sorted(timeline.marks, key=lambda mark: mark.at),
    )
    path = Path(html_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def versions(timeline: Timeline) -> list[VersionRow]:
    """Each version that answered or was judged, in order of number."""
    rows = []
    points: Sequence[AccuracyPoint | SharePoint] = [*timeline.accuracy, *timeline.shares]
    for version in sorted({point.version for point in points}):
        judged = [point for point in timeline.accuracy if point.version == version]
        spans = [(a, b, s.get(version, 0.0)) for a, b, s in splits(timeline) if s.get(version, 0.0)]
        times = [p.at for p in judged] + [a for a, _, _ in spans] + [b for _, b, _ in spans]
        rows.append(
            VersionRow(
                version=version,
                first=min(times, default=timeline.start),
                last=max(times, default=timeline.start),
                labels=max((point.n for point in judged), default=0),
                accuracy=judged[-1].mean if judged else None,
                top_share=max((share for _, _, share in spans), default=0.0),
            )
        )
    return rows


def splits(timeline: Timeline) -> list[tuple[datetime, datetime, dict[int, float]]]:
    """The traffic as stretches: from, to, and the share of each version."""
    times = sorted({point.at for point in timeline.shares})
    if not times:
        return []
    ends = [*times[1:], max(timeline.end, times[-1])]
    return [
        (max(at, timeline.start), end, {p.version: p.share for p in timeline.shares if p.at == at})
        for at, end in zip(times, ends, strict=True)
        if end > timeline.start
    ]
