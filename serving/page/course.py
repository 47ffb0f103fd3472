"""A model's timeline as inline SVG: accuracy, evidence and traffic over one axis of time."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from homeostat.errors import Unavailable
from monitoring.timeline import (
    AccuracyPoint,
    EvidencePoint,
    IncidentNote,
    Mark,
    Timeline,
    splits,
)
from registry.history import timeline
from registry.ledger import ROUTING, head_of, lines_of
from registry.ledger import Line as LedgerLine
from serving.gateway import Gateway
from serving.page.chart import Axis, height, points

KEPT = timedelta(seconds=5)
PATIENCE = 10.0  # seconds: who waits holds a thread that others need
FOLLOWER = "homeostat"  # who moves aliases after a routing
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\d\.\d+Z?")  # as the ledger spells it
LONGEST = 40  # characters of what a line of the ledger is about
LINES = 200  # of the ledger that are looked through for what is no routing
MOST = 200  # happenings that are listed
CEILING = 1.5  # of evidence: times the threshold, on the logarithmic scale
GAP = 0.08  # of the axis: points further apart are not joined

# What happened is told apart by these, not by colour alone.
SIGNS = {
    "incident": "▲",
    "resolved": "✓",
    "version": "●",
    "rollback": "◀",
    "rollout": "◐",
    "retrain": "↻",
}

Point = TypeVar("Point")


@dataclass(frozen=True)
class Line:
    """One line of a panel.

    Args:
        name: What it is of.
        place: Its place among those of the panel: picks dash and colour.
        parts: Points of its polylines: a pause parts them.
        bands: Points of the polygons of its interval, one for each part.
        dots: Parts of one point alone: x and y.
        last: The newest figure of an accuracy, as it is read.
    """

    name: str
    place: int
    parts: tuple[str, ...]
    bands: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]
    last: str


@dataclass(frozen=True)
class Stretch:
    """A stretch of the traffic: where it is, what each version answered, a moment within."""

    x: float
    width: float
    shares: tuple[tuple[int, int, float, float], ...]  # version, place, top, height
    at: datetime
    text: str


@dataclass(frozen=True)
class Happening:
    """Something that happened: its place on the axis (None: outside of it), and its sign."""

    mark: Mark
    x: float | None
    sign: str


@dataclass(frozen=True)
class CourseView:
    """A model's timeline, drawn and told.

    Args:
        now: When it was gathered.
        hours: The stretch that was asked for.
        timeline: What is drawn.
        floor: The accuracy at the bottom of its panel.
        accuracy: A line for each version.
        evidence: A line for each detector.
        alarm: How far from the top of that panel the alarm is, in percent.
        traffic: In order of time.
        shades: Where incidents were open: x and width.
        happenings: The newest first.
        versions: Those that answered, by place.
    """

    now: datetime
    hours: int
    timeline: Timeline
    floor: float
    accuracy: tuple[Line, ...]
    evidence: tuple[Line, ...]
    alarm: float
    traffic: tuple[Stretch, ...]
    shades: tuple[tuple[float, float], ...]
    happenings: tuple[Happening, ...]
    versions: tuple[int, ...]


class Courses:
    """Timelines, each gathered once for all who look within some seconds: a week costs a second.

    Args:
        gateway: Whose models.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, int], CourseView] = {}

    def of(self, name: str, hours: int) -> CourseView:
        """The last hours of a model, as they were some seconds ago at most.

        Raises:
            Unavailable: the database is away, or others are asked for first for too long.
        """
        if not self._lock.acquire(timeout=PATIENCE):
            raise Unavailable("Too many timelines are asked for.", remedy="Ask again later.")
        try:
            now = self._gateway.parts.clock()
            fresh = {key: one for key, one in self._kept.items() if now - one.now < KEPT}
            if (name, hours) not in fresh:
                fresh[name, hours] = course_view(self._gateway, name, hours)
            self._kept = fresh
            return fresh[name, hours]
        finally:
            self._lock.release()


def course_view(gateway: Gateway, name: str, hours: int) -> CourseView:
    """Gather the last hours of a model.

    Raises:
        Unavailable: the database is away.
    """
    now = gateway.parts.clock()
    start = now - timedelta(hours=hours)
    with gateway.parts.reading() as session:
        found = timeline(session, name, start, now + timedelta(microseconds=1))
        after = max(0, head_of(session, name).line - LINES)
        other = [one for one in lines_of(session, name, after=after) if one.kind != ROUTING]
    # Aliases that were made to follow a routing say nothing that the routing does not.
    noted = [_noted(one) for one in other if one.at >= start and one.actor != FOLLOWER]
    axis = Axis(found.start, found.end)
    judged = {point.version for point in found.accuracy}
    versions = sorted(judged | {point.version for point in found.shares})
    floor = _floor(found.accuracy)
    return CourseView(
        now=now,
        hours=hours,
        timeline=found,
        floor=floor,
        accuracy=tuple(
            _accuracy([one for one in found.accuracy if one.version == version], axis, floor, place)
            for place, version in enumerate(versions)
            if version in judged
        ),
        evidence=_evidence(found.evidence, axis),
        alarm=height(1.0, 0.0, CEILING),
        traffic=_traffic(found, axis, versions),
        shades=tuple(_shade(axis, one) for one in found.incidents),
        happenings=_happenings([*found.marks, *noted], axis),
        versions=tuple(versions),
    )


def _accuracy(own: Sequence[AccuracyPoint], axis: Axis, floor: float, place: int) -> Line:
    parts, bands, dots = [], [], []
    for part in _unbroken([(axis.x(one.at), one) for one in own]):
        xs = [x for x, _ in part]
        means = [height(one.mean, floor, 1.0) for _, one in part]
        if len(part) == 1:
            dots.append((xs[0], means[0]))
            continue
        lows = [height(one.low, floor, 1.0) for _, one in part]
        highs = [height(one.high, floor, 1.0) for _, one in part]
        parts.append(points(xs, means))
        bands.append(points([*xs, *reversed(xs)], [*highs, *reversed(lows)]))
    last = own[-1]
    said = f"{last.mean:.1%} ({last.low:.1%} to {last.high:.1%})"
    name = f"version {last.version}"
    return Line(name, place, tuple(parts), tuple(bands), tuple(dots), said)


def _evidence(found: Sequence[EvidencePoint], axis: Axis) -> tuple[Line, ...]:
    lines = []
    for place, detector in enumerate(sorted({one.detector for one in found})):
        own = [one for one in found if one.detector == detector]
        parts = []
        for part in _unbroken([(axis.x(one.at), one) for one in own]):
            ys = [height(one.value / one.threshold, 0.0, CEILING) for _, one in part]
            parts.append(points([x for x, _ in part], ys))
        lines.append(Line(detector, place, tuple(parts), (), (), ""))
    return tuple(lines)


def _traffic(found: Timeline, axis: Axis, versions: Sequence[int]) -> tuple[Stretch, ...]:
    stretches = []
    for start, end, shares in splits(found):
        top, parts = 0.0, []
        for version, share in sorted(shares.items()):
            parts.append((version, versions.index(version), round(top, 2), round(share * 100, 2)))
            top += share * 100
        x = axis.x(start)
        said = ", ".join(f"version {one[0]} {one[3]:.0f} %" for one in parts if one[3])
        middle = start + (end - start) / 2
        if said:
            stretches.append(Stretch(x, round(axis.x(end) - x, 2), tuple(parts), middle, said))
    return tuple(stretches)


def _noted(line: LedgerLine) -> Mark:
    """What the ledger says besides routings: an alias, an approval, an override."""
    about = _MOMENT.sub(r"\1 \2", line.after or line.before or "")[:LONGEST]
    text = f"{line.kind}: {about}" if about else line.kind
    return Mark(line.at, line.kind, text, f"{line.reason} By {line.actor}.")


def _shade(axis: Axis, one: IncidentNote) -> tuple[float, float]:
    """Where an incident was open."""
    x = axis.x(one.opened_at)
    return x, round(axis.x(one.resolved_at or axis.end) - x, 2)


def _happenings(marks: Sequence[Mark], axis: Axis) -> tuple[Happening, ...]:
    """The newest first."""
    ordered = sorted(marks, key=lambda one: one.at, reverse=True)[:MOST]
    return tuple(
        Happening(
            one,
            axis.x(one.at) if axis.start <= one.at <= axis.end else None,
            SIGNS.get(one.kind, "·"),
        )
        for one in ordered
    )


def _floor(found: Sequence[AccuracyPoint]) -> float:
    lowest = min((one.low for one in found), default=0.9)
    return max(0.0, math.floor(lowest * 10) / 10)


def _unbroken(found: Sequence[tuple[float, Point]]) -> list[list[tuple[float, Point]]]:
    """Points in order of time, parted where they are far apart."""
    parts: list[list[tuple[float, Point]]] = []
    for x, one in found:
        if not parts or x - parts[-1][-1][0] > 100 * GAP:
            parts.append([])
        parts[-1].append((x, one))
    return parts
