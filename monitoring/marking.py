"""The marks above the picture of a timeline: what happened when, in labels that never overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from monitoring.drawing import LANE, SMALL, Sheet, number, text_width
from monitoring.timeline import Mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LANES = 12  # at most; further marks keep their line and stand in the page's table
_LONGEST = 40  # letters of a label; what is longer stands in the page's table
_TOGETHER = 5.0  # points: marks of one kind so near share a label
_UNTOLD = ("resolved",)  # the end of an incident's shade says it
_THROUGH = ("incident", "rollback", "version")  # lines through all panels

_MARKS: dict[str, tuple[str, str, Any]] = {  # marker, colour's name, dash
    "incident": ("^", "alarm", "-"),
    "resolved": ("o", "calm", (0, (1, 2))),
    "version": ("D", "move", (0, (5, 3))),
    "rollback": ("<", "alarm", (0, (6, 2, 1, 2))),
    "retrain": ("s", "work", (0, (1, 2))),
}
_PLAIN_MARK: tuple[str, str, Any] = ("o", "quiet", (0, (1, 2)))


@dataclass(frozen=True)
class Lane:
    """A mark's label: its row (the lowest is 0, -1 has no room for it), and which way it reads."""

    mark: Mark
    text: str
    row: int
    leftwards: bool


def assign_lanes(sheet: Sheet) -> list[Lane]:
    """A row for each mark's label: the lowest free one, from the right.

    Labels are measured as they will be drawn, so that none can cover another; a label reads
    over marks to its right, whose stems then end below it. Those at the right edge, which read
    leftwards, come above all others. Where there are too many, the lesser ones go without.
    """
    labels = _labels(sheet)
    lanes = _assign(sheet, labels)
    if any(lane.row < 0 for lane in lanes):
        lanes = _assign(sheet, [label for label in labels if label[0].kind in _THROUGH])
        lanes += [Lane(mark, "", -1, False) for mark, _ in labels if mark.kind not in _THROUGH]
    return lanes


def _assign(sheet: Sheet, labels: Sequence[tuple[Mark, str]]) -> list[Lane]:
    edge = (sheet.look.width - sheet.left) * 72 - 6  # the sheet's own, in points of the panels
    free: list[list[tuple[float, float]]] = []
    lanes: list[Lane] = []
    last: list[tuple[Mark, str]] = []
    for mark, text in reversed(labels):
        if sheet.x(mark.at) + _reach(sheet, mark, text) > edge:
            last.append((mark, text))
            continue
        x = sheet.x(mark.at)
        row = _lowest(free, 0, (x - 8, x + _reach(sheet, mark, text)))
        lanes.append(Lane(mark, text, row, False))
    above = len(free)
    for mark, text in last:
        x = sheet.x(mark.at)
        row = _lowest(free, above, (x - _reach(sheet, mark, text), x + 8))
        lanes.append(Lane(mark, text, row, True))
    return lanes


def _reach(sheet: Sheet, mark: Mark, text: str) -> float:
    return text_width(sheet.figure, text, bold=mark.kind == "rollback") + 14


def _lowest(free: list[list[tuple[float, float]]], least: int, reach: tuple[float, float]) -> int:
    """Take the lowest row from `least` on where nothing lies within `reach`; -1 if none is left."""
    row = least
    while row < len(free) and any(reach[0] < b and a < reach[1] for a, b in free[row]):
        row += 1
    if row >= _LANES:
        return -1
    free += [[] for _ in range(row + 1 - len(free))]
    free[row].append(reach)
    return row


def _labels(sheet: Sheet) -> list[tuple[Mark, str]]:
    """The marks within the picture with their labels; neighbours of one kind share one."""
    labels: list[tuple[Mark, str]] = []
    for mark in sorted(sheet.timeline.marks, key=_order):
        inside = sheet.start <= number(mark.at) <= sheet.end
        if not inside or mark.kind in _UNTOLD:
            continue
        text = _short(mark.text)
        if labels and labels[-1][0].kind == mark.kind:
            near = sheet.x(mark.at) - sheet.x(labels[-1][0].at) < _TOGETHER
            both = f"{labels[-1][1]}, {text}"
            if near and (len(both) <= _LONGEST or text == labels[-1][1]):
                labels[-1] = (labels[-1][0], both if text != labels[-1][1] else text)
                continue
        labels.append((mark, text))
    return labels


def _order(mark: Mark) -> tuple[object, bool]:
    """By time, and what was found before what was done about it."""
    return mark.at, mark.kind != "incident"


def _short(text: str) -> str:
    """At most so many letters, cut between words."""
    words = text.split()
    while len(words) > 1 and len(" ".join(words)) > _LONGEST:
        words.pop()
    return " ".join(words)[:_LONGEST]


def draw_marks(axes: Sequence[Axes], sheet: Sheet, lanes: Sequence[Lane]) -> None:
    """Shade incidents, and give each mark a line and its label above the first panel."""
    for incident in sheet.timeline.incidents:
        until = incident.resolved_at or sheet.timeline.end
        left = max(number(incident.opened_at), sheet.start)
        right = min(number(until), sheet.end)
        if right > left:
            for axis in axes[:2]:
                axis.axvspan(left, right, color=sheet.look.alarm, alpha=0.07, lw=0, zorder=0.5)
    for lane in lanes:
        _draw(axes, sheet, lane)


def _draw(axes: Sequence[Axes], sheet: Sheet, lane: Lane) -> None:
    marker, name, dash = _MARKS.get(lane.mark.kind, _PLAIN_MARK)
    colour, x = getattr(sheet.look, name), number(lane.mark.at)
    through = lane.mark.kind in _THROUGH
    for axis in axes:
        alpha = 0.85 if through else 0.4
        axis.axvline(x, color=colour, linestyle=dash, linewidth=0.9, alpha=alpha, zorder=1.5)
    if lane.row < 0:
        return
    panel = axes[0]
    height = 1 + (0.32 + (lane.row + 0.5) * LANE) / sheet.look.panels[0]
    where = panel.get_xaxis_transform()
    over: dict[str, Any] = {"transform": where, "clip_on": False, "color": colour}
    panel.plot([x, x], [1, height], linestyle=dash, linewidth=0.9, alpha=0.85, zorder=1.5, **over)
    panel.plot([x], [height], marker, ms=5.5, zorder=4, **over)
    grave = lane.mark.kind in ("incident", "rollback")
    panel.annotate(
        lane.text,
        (x, height),
        (-8 if lane.leftwards else 8, 0),
        xycoords=where,
        textcoords="offset points",
        ha="right" if lane.leftwards else "left",
        va="center",
        fontsize=SMALL,
        fontweight="bold" if lane.mark.kind == "rollback" else "normal",
        color=colour if grave else sheet.look.ink,
        annotation_clip=False,
        parse_math=False,
        bbox={"facecolor": sheet.look.paper, "edgecolor": "none", "pad": 0.6},
        zorder=3,
    )
