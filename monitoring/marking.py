"""The marks above the picture of a timeline: what happened when, in labels that never overlap."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from monitoring.timeline import Mark, Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 12.0  # inches
DPI = 160
LEFT, RIGHT = 0.06, 0.885
PANELS = (3.0, 1.75, 1.25)  # heights in inches: accuracy, evidence, traffic
GAP, TOP, BOTTOM = 0.34, 0.62, 0.42
LANE = 0.235  # inches of one row of mark labels
_LANES = 9  # at most; further marks keep their line and stand in the page's table
_LONGEST = 52  # letters of a mark's label

_MARKS: dict[str, tuple[str, str, Any]] = {  # marker, colour, dash
    "incident": ("^", "#b2182b", "-"),
    "resolved": ("o", "#1b7837", (0, (1, 2))),
    "version": ("D", "#0072b2", (0, (5, 3))),
    "rollback": ("<", "#b2182b", (0, (6, 2, 1, 2))),
    "retrain": ("s", "#6a51a3", (0, (1, 2))),
}
_PLAIN_MARK: tuple[str, str, Any] = ("o", "#5b6675", (0, (1, 2)))


def span(timeline: Timeline) -> tuple[float, float]:
    """The ends of the axis of time, a second apart at least."""
    start, end = number(timeline.start), number(timeline.end)
    return start, max(end, start + 1 / 86_400)


def number(at: datetime) -> float:
    """A moment as matplotlib counts it: days since 1970, in UTC."""
    return at.timestamp() / 86_400


def assign_lanes(figure: Figure, timeline: Timeline) -> dict[int, tuple[int, bool]]:
    """For each mark its row of labels (the lowest free one) and whether it reads leftwards.

    Labels are measured as they will be drawn, so that none can cover another.
    """
    start, end = span(timeline)
    points_wide = WIDTH * 72 * (RIGHT - LEFT)
    free: list[list[tuple[float, float]]] = []
    lanes: dict[int, tuple[int, bool]] = {}
    for index in sorted(
        range(len(timeline.marks)), key=lambda i: timeline.marks[i].at, reverse=True
    ):
        mark = timeline.marks[index]
        if not timeline.start <= mark.at <= timeline.end:
            continue
        x = (number(mark.at) - start) / (end - start) * points_wide
        width = _text_width(figure, _label(mark)) + 16
        leftwards = x + width > points_wide + 0.09 * WIDTH * 72 and x > points_wide / 2
        reach = (x - width, x + 8) if leftwards else (x - 6, x + width)
        for lane in range(_LANES):
            if lane == len(free):
                free.append([])
            if all(reach[1] < left or reach[0] > right for left, right in free[lane]):
                free[lane].append(reach)
                lanes[index] = (lane, leftwards)
                break
    return lanes


def _label(mark: Mark) -> str:
    text = " ".join(mark.text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1].rstrip() + "…"


def _text_width(figure: Figure, text: str) -> float:
    """Width in points."""
    probe = figure.text(0, 0, text, fontsize=8.5, parse_math=False)
    width = probe.get_window_extent().width / figure.dpi * 72
    probe.remove()
    return float(width)


def draw_marks(axes: list[Axes], timeline: Timeline, lanes: dict[int, tuple[int, bool]]) -> None:
    """A line for each mark through all panels, and its label in its lane above the first."""
    for index, mark in enumerate(timeline.marks):
        if not timeline.start <= mark.at <= timeline.end:
            continue
        marker, colour, dash = _MARKS.get(mark.kind, _PLAIN_MARK)
        x = number(mark.at)
        for axis in axes:
            axis.axvline(x, color=colour, linestyle=dash, linewidth=0.9, alpha=0.75, zorder=1.5)
        if index not in lanes:
            continue
        lane, leftwards = lanes[index]
        panel = axes[0]
        height = 1 + (0.3 + (lane + 0.5) * LANE) / PANELS[0]
        where = panel.get_xaxis_transform()
        panel.plot(
            [x, x],
            [1, height],
            color=colour,
            linestyle=dash,
            linewidth=0.9,
            alpha=0.75,
            transform=where,
            clip_on=False,
            zorder=1.5,
        )
        panel.plot([x], [height], marker, color=colour, ms=5.5, transform=where, clip_on=False)
        panel.annotate(
            _label(mark),
            (x, height),
            (-8 if leftwards else 8, 0),
            xycoords=where,
            textcoords="offset points",
            ha="right" if leftwards else "left",
            va="center",
            fontsize=8.5,
            annotation_clip=False,
            parse_math=False,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )
