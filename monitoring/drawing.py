"""The picture of a timeline, with matplotlib's Agg canvas."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

from monitoring.marking import (
    BOTTOM,
    DPI,
    GAP,
    LANE,
    LEFT,
    PANELS,
    RIGHT,
    TOP,
    WIDTH,
    assign_lanes,
    draw_marks,
    number,
    span,
)
from monitoring.timeline import EvidencePoint, Timeline, splits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, FAINT = "#1c2430", "#5b6675", "#d5dae1"
# Okabe and Ito's palette, which stays apart for the colour-blind.
_VERSION_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_VERSION_MARKERS = ("o", "s", "D", "^", "v", "P")
_VERSION_HATCHES = ("", "////", "....", "\\\\\\\\", "xx", "++")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.2, 1.4)), (0, (6, 2, 1.2, 2)), (0, (3, 1)))
_DETECTOR_COLOURS = ("#7b3294", "#b35806", "#1b7837", "#35506b", "#8c2d04")
_CEILING = 3.0  # decades above the threshold that are shown


def render(timeline: Timeline) -> bytes:
    """The PNG of a timeline."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: Any = {  # typed by matplotlib as hundreds of literals
        "font.family": "DejaVu Sans",
        "font.size": 9.5,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": QUIET,
        "xtick.color": QUIET,
        "ytick.color": QUIET,
        "text.color": INK,
        "hatch.linewidth": 0.5,
        "timezone": "UTC",
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(WIDTH, 8.0), dpi=DPI, facecolor="white")
        canvas = FigureCanvasAgg(figure)
        lanes = assign_lanes(figure, timeline)
        axes = _lay_out(figure, timeline, 1 + max((lane for lane, _ in lanes.values()), default=-1))
        _accuracy(axes[0], timeline)
        _evidence(axes[1], timeline)
        _shares(axes[2], timeline)
        draw_marks(axes, timeline, lanes)
        buffer = io.BytesIO()
        canvas.print_png(buffer)  # type: ignore[no-untyped-call] # matplotlib types it not
    return buffer.getvalue()


def _lay_out(figure: Figure, timeline: Timeline, lanes: int) -> list[Axes]:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    head = TOP + lanes * LANE + 0.1
    height = head + sum(PANELS) + GAP * (len(PANELS) - 1) + BOTTOM
    figure.set_size_inches(WIDTH, height)
    axes: list[Axes] = []
    top = height - head
    for size in PANELS:
        box = (LEFT, (top - size) / height, RIGHT - LEFT, size / height)
        axes.append(figure.add_axes(box, sharex=axes[0] if axes else None))
        top -= size + GAP
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color=FAINT, linewidth=0.7)
        axis.set_axisbelow(True)
        last = axis is axes[-1]
        axis.tick_params(axis="x", length=3 if last else 0, labelbottom=last)
        axis.tick_params(axis="y", length=0)
    axes[0].set_xlim(*span(timeline))
    locator = AutoDateLocator(minticks=5, maxticks=11)  # type: ignore[no-untyped-call] # likewise
    axes[-1].xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator, show_offset=False)  # type: ignore[no-untyped-call] # likewise
    axes[-1].xaxis.set_major_formatter(formatter)
    y = 1 - 0.3 / height
    figure.text(LEFT, y, timeline.model, fontsize=15, fontweight="bold", va="center")
    stretch = f"{timeline.start:%d %b %Y %H:%M} to {_end_text(timeline)} UTC"
    figure.text(RIGHT, y, stretch, ha="right", va="center", color=QUIET)
    return axes


def _end_text(timeline: Timeline) -> str:
    same_day = timeline.start.date() == timeline.end.date()
    return f"{timeline.end:%H:%M}" if same_day else f"{timeline.end:%d %b %Y %H:%M}"


def _title(axis: Axes, text: str, hint: str = "") -> None:
    axis.annotate(
        text,
        (0, 1),
        (0, 5),
        xycoords="axes fraction",
        textcoords="offset points",
        fontweight="bold",
        fontsize=9.5,
        color=INK,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
        zorder=6,
    )
    if hint:
        axis.annotate(
            hint,
            (1, 1),
            (0, 5),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            color=QUIET,
            fontsize=8.5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
            zorder=6,
        )


def _look(timeline: Timeline, version: int) -> int:
    """The place of a version among those shown: picks its colour, marker and hatching."""
    known = {p.version for p in timeline.accuracy} | {p.version for p in timeline.shares}
    return sorted(known).index(version) % len(_VERSION_COLOURS)


def _accuracy(axis: Axes, timeline: Timeline) -> None:
    from matplotlib.ticker import PercentFormatter

    _title(axis, "Accuracy", "line: mean of the labels; band: its interval")
    ends: list[tuple[float, str, dict[str, Any]]] = []
    start, end = span(timeline)
    for version in sorted({point.version for point in timeline.accuracy}):
        look = _look(timeline, version)
        colour, marker = _VERSION_COLOURS[look], _VERSION_MARKERS[look]
        points = [point for point in timeline.accuracy if point.version == version]
        at = [number(point.at) for point in points]
        low, high = [point.low for point in points], [point.high for point in points]
        axis.fill_between(at, low, high, color=colour, alpha=0.16, linewidth=0)
        for edge in (low, high):
            axis.plot(at, edge, color=colour, alpha=0.45, linewidth=0.6)
        axis.plot(
            at,
            [point.mean for point in points],
            color=colour,
            linewidth=1.9,
            marker=marker,
            markersize=5,
            markevery=max(1, len(at) // 12),
            markerfacecolor="white",
            markeredgewidth=1.4,
        )
        if at[-1] < end - 0.02 * (end - start):
            _beside(axis, at[-1], points[-1].mean, f"version {version}", colour)
        else:
            sample = {"color": colour, "marker": marker, "markerfacecolor": "white"}
            ends.append((points[-1].mean, f"version {version}", sample))
    lowest = min((point.low for point in timeline.accuracy), default=0.0)
    axis.set_ylim(max(0.0, math.floor(lowest * 10 - 0.2) / 10), 1.01)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _name_ends(axis, ends)
    if not timeline.accuracy:
        _nothing(axis, "no labels yet")


def _beside(axis: Axes, x: float, y: float, text: str, colour: str) -> None:
    axis.annotate(
        text,
        (x, y),
        (7, 0),
        textcoords="offset points",
        va="center",
        color=colour,
        fontsize=9,
        fontweight="bold",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        zorder=5,
    )


def _name_ends(
    axis: Axes, ends: list[tuple[float, str, dict[str, Any]]], apart: float = 0.085
) -> None:
    """Name lines to the right of the panel, each with a sample of it, pushed apart if need be."""
    low, high = axis.get_ylim()
    gap = (high - low) * apart
    placed = low - gap
    for y, text, look in sorted(ends, key=lambda end: end[0]):
        placed = max(y, placed + gap)
        where = axis.get_yaxis_transform()
        spot = [1.007, 1.0185, 1.03]
        axis.plot(
            spot,
            [placed] * 3,
            transform=where,
            clip_on=False,
            linewidth=1.8,
            markersize=5,
            markevery=[1],
            **look,
        )
        axis.annotate(
            text,
            (spot[-1], placed),
            (5, 0),
            xycoords=where,
            textcoords="offset points",
            va="center",
            color=look["color"],
            fontsize=9,
            fontweight="bold",
            annotation_clip=False,
        )


def _nothing(axis: Axes, text: str) -> None:
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color=QUIET)


def _evidence(axis: Axes, timeline: Timeline) -> None:
    _title(axis, "Evidence of change", "as a multiple of the alarm's threshold, log scale, capped")
    names = list(dict.fromkeys(point.detector for point in timeline.evidence))
    ends: list[tuple[float, str, dict[str, Any]]] = []
    lowest = -4.0
    for index, name in enumerate(names):
        points = [point for point in timeline.evidence if point.detector == name]
        heights = [_decades(point) for point in points]
        lowest = min([lowest, *heights])
        colour = _DETECTOR_COLOURS[index % len(_DETECTOR_COLOURS)]
        dashes = _DASHES[index % len(_DASHES)]
        at = [number(point.at) for point in points]
        axis.plot(at, heights, color=colour, linestyle=dashes, linewidth=1.7)
        ends.append((heights[-1], name, {"color": colour, "linestyle": dashes}))
    axis.axhline(0.0, color=INK, linewidth=1.1)
    axis.axhspan(0.0, _CEILING, color="#b2182b", alpha=0.06, linewidth=0)
    axis.set_ylim(max(lowest, -9.0) - 0.35, _CEILING)
    ticks = [tick for tick in (-8, -6, -4, -2, 0, 2) if tick >= axis.get_ylim()[0]]
    axis.set_yticks(ticks, [_share_text(tick) for tick in ticks])
    axis.annotate(
        "alarm",
        (0, 0),
        (5, 3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        fontsize=8.5,
        color="#b2182b",
    )
    _name_ends(axis, ends, apart=0.14)
    if not names:
        _nothing(axis, "no evidence yet")


def _decades(point: EvidencePoint) -> float:
    """Powers of ten above the threshold, as far as they are shown."""
    return min((point.value - point.threshold) / math.log(10), _CEILING - 0.15)


def _share_text(decades: int) -> str:
    return {0: "1", 2: "100"}.get(decades, f"$10^{{{decades}}}$")


def _shares(axis: Axes, timeline: Timeline) -> None:
    from matplotlib.ticker import PercentFormatter

    _title(axis, "Traffic", "which version answers")
    stretches = splits(timeline)
    known = sorted({point.version for point in timeline.shares})
    widest: dict[int, tuple[float, float, float]] = {}
    for since, until, split in stretches:
        base = 0.0
        left, right = number(since), number(min(until, timeline.end))
        for version in known:
            share = split.get(version, 0.0)
            if share <= 0 or right <= left:
                continue
            look = _look(timeline, version)
            axis.fill_between(
                [left, right],
                base,
                base + share,
                facecolor=_VERSION_COLOURS[look] + "55",
                hatch=_VERSION_HATCHES[look],
                edgecolor=_VERSION_COLOURS[look],
                linewidth=0.6,
            )
            room = ((right - left) * share, (left + right) / 2, base + share / 2)
            widest[version] = max(widest.get(version, (0.0, 0.0, 0.0)), room)
            base += share
    start, end = span(timeline)
    for version, (area, x, y) in widest.items():
        if area > 0.025 * (end - start):
            box = {"facecolor": "white", "edgecolor": "none", "pad": 2, "alpha": 0.9}
            axis.text(x, y, f"v{version}", ha="center", va="center", fontweight="bold", bbox=box)
    axis.set_ylim(0, 1)
    axis.set_yticks([0, 0.5, 1])
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    if not stretches:
        _nothing(axis, "no traffic yet")
