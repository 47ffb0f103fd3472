"""The three panels of a timeline's picture: accuracy, evidence of change, traffic."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from monitoring.drawing import SMALL, Sheet, number
from monitoring.looks import DASHES, VERSION_HATCHES, VERSION_MARKERS
from monitoring.naming import End, name_ends, nothing, title
from monitoring.timeline import AccuracyPoint, EvidencePoint, Timeline, splits

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CEILING = 3.0  # decades above the threshold that are shown
FLOOR = -9.0  # and below it
_ROOM = 64.0  # points: what the name of a version takes
_BREAK = 0.03  # of the axis: so long without answers ends a version's line
_DETECTORS = {
    "input-drift": "inputs\nchanged",
    "loss": "accuracy\nfell",
    "worse-than-standby": "worse than\nstandby",
}


def version_names(timeline: Timeline) -> list[str]:
    """The names of the versions' lines."""
    return [f"version {version}" for version in sorted({p.version for p in timeline.accuracy})]


def detector_names(timeline: Timeline) -> list[str]:
    """The names of the detectors' lines."""
    names = dict.fromkeys(point.detector for point in timeline.evidence)
    return [_detector(name) for name in names]


def _detector(name: str) -> str:
    return _DETECTORS.get(name, name.replace("-", "\n", 1))


def accuracy(axis: Axes, sheet: Sheet) -> None:
    """A line and its band for each version."""
    from matplotlib.ticker import PercentFormatter

    points = sheet.timeline.accuracy
    title(axis, sheet, "Accuracy")
    lowest = min((point.low for point in points), default=0.0)
    axis.set_ylim(max(0.0, math.floor(lowest * 10) / 10), 1.015)
    ends: list[End] = []
    for version in sorted({point.version for point in points}):
        own = [point for point in points if point.version == version]
        colour = sheet.colour(version)
        marker = VERSION_MARKERS[sheet.place(version) % len(VERSION_MARKERS)]
        look = {"color": colour, "marker": marker, "markerfacecolor": sheet.look.paper}
        for part in _unbroken(own, sheet.timeline, _BREAK):
            _line(axis, part, look)
        last = own[-1]
        if sheet.x(last.at) < sheet.points_wide * 0.9:
            _name_past(axis, sheet, last)
        else:
            ends.append(End(last.mean, f"version {version}", look))
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    name_ends(axis, sheet, ends)
    if not points:
        nothing(axis, sheet, "no labels yet")
    elif sheet.timeline.immature is not None:
        _immature(axis, sheet, sheet.timeline.immature)


def _immature(axis: Axes, sheet: Sheet, since: datetime) -> None:
    """Shade where labels lack: what stands there may change."""
    left = max(number(since), sheet.start)
    axis.axvspan(
        left, sheet.end, facecolor="none", edgecolor=sheet.look.faint, hatch="..", zorder=0
    )
    axis.text(
        left,
        0.02,
        "immature",
        transform=axis.get_xaxis_transform(),
        ha="left" if sheet.x(since) < sheet.points_wide * 0.8 else "right",
        va="bottom",
        fontsize=SMALL,
        color=sheet.look.quiet,
    )


def _line(axis: Axes, part: Sequence[AccuracyPoint], look: dict[str, Any]) -> None:
    at = [number(point.at) for point in part]
    if len(part) == 1:  # no line without a second point: its interval stands upright
        axis.vlines(at, part[0].low, part[0].high, color=look["color"], alpha=0.4, linewidth=4)
    low, high = [point.low for point in part], [point.high for point in part]
    axis.fill_between(at, low, high, color=look["color"], alpha=0.17, linewidth=0, zorder=2)
    axis.plot(
        at,
        [point.mean for point in part],
        linewidth=1.9,
        markersize=4.6,
        markevery=max(1, len(at) // 16),
        markeredgewidth=1.3,
        zorder=3,
        **look,
    )


def _unbroken(
    points: Sequence[AccuracyPoint], timeline: Timeline, share: float
) -> Iterator[list[AccuracyPoint]]:
    """A version's points, cut where it answered nothing for that share of the axis."""
    stretches = splits(timeline)
    least = (timeline.end - timeline.start) * share
    part = list(points[:1])
    for one, other in pairwise(points):
        silent = timedelta(0)
        for since, until, split in stretches:
            if not split.get(one.version):
                silent += max(min(until, other.at) - max(since, one.at), timedelta(0))
        if silent > least:
            yield part
            part = []
        part.append(other)
    if part:
        yield part


def _name_past(axis: Axes, sheet: Sheet, last: AccuracyPoint) -> None:
    """Name a version that ended: after its last point, or under its band where others are."""
    floor, ceiling = axis.get_ylim()
    taken = any(
        0 <= sheet.x(point.at) - sheet.x(last.at) < _ROOM
        and abs(point.mean - last.mean) < 0.08 * (ceiling - floor)
        for point in sheet.timeline.accuracy
        if point.version != last.version
    )
    above = taken and last.low - floor < 0.09 * (ceiling - floor)
    y = (last.high if above else last.low) if taken else last.mean
    axis.annotate(
        f"version {last.version}",
        (number(last.at), y),
        (0, 3 if above else -3) if taken else (8, 0),
        textcoords="offset points",
        ha="right" if taken and sheet.x(last.at) > _ROOM else "left",
        va=("bottom" if above else "top") if taken else "center",
        color=sheet.colour(last.version),
        fontsize=SMALL,
        fontweight="bold",
        zorder=5,
    )


def evidence(axis: Axes, sheet: Sheet) -> None:
    """A line for each detector, against the threshold where it signals."""
    look = sheet.look
    title(axis, sheet, "Evidence of change")
    names = list(dict.fromkeys(point.detector for point in sheet.timeline.evidence))
    ends: list[End] = []
    lowest = -5.0
    for index, name in enumerate(names):
        own = [point for point in sheet.timeline.evidence if point.detector == name]
        sample = {
            "color": look.detectors[index % len(look.detectors)],
            "linestyle": DASHES[index % len(DASHES)],
        }
        lowest = min([lowest, *map(_decades, own)])
        for part in _by_version(own):
            at = [number(point.at) for point in part]
            axis.plot(at, [_decades(point) for point in part], linewidth=1.7, zorder=3, **sample)
        ends.append(End(_decades(own[-1]), _detector(name), sample))
    axis.axhline(0.0, color=look.alarm, linewidth=1.1, zorder=2)
    axis.set_ylim(max(lowest, FLOOR) - 0.4, CEILING + 0.2)
    ticks = [tick for tick in (-8, -4, -2, 0, 2) if tick >= axis.get_ylim()[0]]
    axis.set_yticks(ticks, [_multiple(tick) for tick in ticks])
    for tick, label in zip(ticks, axis.get_yticklabels(), strict=True):
        if tick == 0:
            label.set_color(look.alarm)
            label.set_fontweight("bold")
    name_ends(axis, sheet, ends)
    if not names:
        nothing(axis, sheet, "no evidence yet")


def _by_version(points: Sequence[EvidencePoint]) -> Iterator[list[EvidencePoint]]:
    """Points of one detector, cut where it began to watch another version."""
    part: list[EvidencePoint] = []
    for point in points:
        if part and part[-1].version != point.version:
            yield part
            part = []
        part.append(point)
    if part:
        yield part


def _decades(point: EvidencePoint) -> float:
    """Powers of ten above the threshold, as far as they are shown."""
    return max(min((point.value - point.threshold) / math.log(10), CEILING), FLOOR)


def _multiple(decades: int) -> str:
    if decades == 0:
        return "alarm"
    return f"{10**decades:,} ×" if decades > 0 else f"1/{10**-decades:,}"


def traffic(axis: Axes, sheet: Sheet) -> None:
    """The versions' shares of the answers, one on the other."""
    from matplotlib.ticker import PercentFormatter

    title(axis, sheet, "Traffic")
    stretches = splits(sheet.timeline)
    edges = [number(since) for since, _, _ in stretches]
    edges += [number(min(stretches[-1][1], sheet.timeline.end))] if stretches else []
    base = [0.0] * len(stretches)
    for version in sorted({point.version for point in sheet.timeline.shares}):
        shares = [split.get(version, 0.0) for _, _, split in stretches]
        top = [low + share for low, share in zip(base, shares, strict=True)]
        axis.stairs(
            top,
            edges,
            baseline=base,
            fill=True,
            facecolor=sheet.colour(version) + "66",
            edgecolor=sheet.colour(version),
            hatch=VERSION_HATCHES[sheet.place(version) % len(VERSION_HATCHES)],
            linewidth=0,
        )
        _name_areas(axis, sheet, version, edges, base, top)
        base = top
    axis.set_ylim(0, 1)
    axis.set_yticks([0, 0.5, 1])
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    if not stretches:
        nothing(axis, sheet, "no traffic yet")


def _name_areas(
    axis: Axes,
    sheet: Sheet,
    version: int,
    edges: Sequence[float],
    base: Sequence[float],
    top: Sequence[float],
) -> None:
    """Write a version's name into each area of it that has room for that."""
    room = 24 / sheet.points_wide * (sheet.end - sheet.start)
    first = 0
    for index in range(len(top) + 1):
        if index < len(top) and top[index] - base[index] > 0.45:
            continue
        if index > first and edges[index] - edges[first] > room:
            middle = sum([*base[first:index], *top[first:index]]) / (2 * (index - first))
            axis.text(
                (edges[first] + edges[index]) / 2,
                middle,
                f"v{version}",
                ha="center",
                va="center",
                fontsize=SMALL,
                fontweight="bold",
                bbox={"facecolor": sheet.look.paper, "edgecolor": "none", "pad": 2, "alpha": 0.9},
                zorder=5,
            )
        first = index + 1
