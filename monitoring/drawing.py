"""The picture of a timeline, with matplotlib's Agg canvas: its sheet, axis of time and frame."""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monitoring.looks import LIGHT, Look
from monitoring.timeline import Timeline, when

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

DPI = 160
_FINE, SMALL, NORMAL = 8.0, 8.5, 9.5  # points
SIDE, GAP = 0.18, 0.36  # inches: beside the sheet's texts, between panels
LANE = 0.23  # inches of one row of mark labels
_SAMPLE = 24.0  # points: a sample of a line before its name, right of the panels
_COLOURS = 128  # of the picture's file: what is drawn has fewer, but for smoothed edges
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800)
_DAY = 86_400
_LONG_STEPS = tuple(_DAY * days for days in (0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 365))
_CAPTION = (
    "Accuracy: mean of the labels of each stretch, with its 95 % interval. Evidence: on a log"
    " scale against the threshold where it alarms, capped. Traffic: the share of the answers"
    " that each version gave. Shade: an incident is open. Dots: labels lack yet."
)


@dataclass(frozen=True)
class Sheet:
    """What is being drawn, in which look, with the axis of time from `start` to `end`.

    `start` and `end` are as matplotlib counts: days since 1970, a second apart at least. `left`
    and `right` are the panels' sides in inches.
    """

    figure: Figure
    timeline: Timeline
    look: Look
    start: float
    end: float
    left: float
    right: float

    @property
    def points_wide(self) -> float:
        """The panels' width in points."""
        return (self.right - self.left) * 72

    def x(self, at: datetime) -> float:
        """A moment's distance from the panels' left side, in points."""
        return (number(at) - self.start) / (self.end - self.start) * self.points_wide

    def place(self, version: int) -> int:
        """The place of a version among those shown: picks its colour, marker and hatching."""
        judged = {point.version for point in self.timeline.accuracy}
        answering = {point.version for point in self.timeline.shares}
        return sorted(judged | answering).index(version)

    def colour(self, version: int) -> str:
        """The colour of a version."""
        return self.look.versions[self.place(version) % len(self.look.versions)]


def number(at: datetime) -> float:
    """A moment as matplotlib counts it: days since 1970, in UTC."""
    return at.timestamp() / _DAY


def render(timeline: Timeline, look: Look = LIGHT) -> bytes:
    """The PNG of a timeline."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from monitoring import marking, panels

    style: Any = {  # typed by matplotlib as hundreds of literals
        "font.family": "DejaVu Sans",
        "font.size": NORMAL,
        "axes.edgecolor": look.faint,
        "axes.facecolor": look.paper,
        "xtick.color": look.quiet,
        "ytick.color": look.quiet,
        "text.color": look.ink,
        "hatch.linewidth": 0.5,
        "timezone": "UTC",
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(look.width, 8.0), dpi=DPI, facecolor=look.paper)
        canvas = FigureCanvasAgg(figure)
        sheet = sheet_of(figure, timeline, look)
        lanes = marking.assign_lanes(sheet)
        axes = _lay_out(sheet, 1 + max((lane.row for lane in lanes), default=-1))
        panels.accuracy(axes[0], sheet)
        panels.evidence(axes[1], sheet)
        panels.traffic(axes[2], sheet)
        marking.draw_marks(axes, sheet, lanes)
        return to_png(canvas)


def to_png(canvas: FigureCanvasAgg) -> bytes:
    """A canvas as a PNG of few colours: a third of the size, and no eye sees it."""
    from PIL import Image

    canvas.draw()  # type: ignore[no-untyped-call] # matplotlib types it not
    pixels: NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call] # likewise
    picture = Image.fromarray(pixels[:, :, :3])
    buffer = io.BytesIO()
    picture.quantize(_COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def sheet_of(figure: Figure, timeline: Timeline, look: Look) -> Sheet:
    """The sheet of a timeline, as wide beside its panels as the names of their lines."""
    from monitoring import panels

    start, end = number(timeline.start), number(timeline.end)
    names = [*panels.version_names(timeline), *panels.detector_names(timeline)]
    widest = max((text_width(figure, name, bold=True) for name in names), default=40.0)
    return Sheet(
        figure=figure,
        timeline=timeline,
        look=look,
        start=start,
        end=max(end, start + 1 / _DAY),
        left=look.left,
        right=look.width - (_SAMPLE + widest + 16) / 72,
    )


def text_width(figure: Figure, text: str, *, bold: bool = False) -> float:
    """Width in points of a small text, its longest line where it has several."""
    weight = "bold" if bold else "normal"
    probe = figure.text(0, 0, text, fontsize=SMALL, fontweight=weight, parse_math=False)
    width = probe.get_window_extent().width / figure.dpi * 72
    probe.remove()
    return float(width)


def _lay_out(sheet: Sheet, lanes: int) -> list[Axes]:
    look, figure = sheet.look, sheet.figure
    heading = _heading(sheet) if look.heading else []
    top = 0.5 + 0.2 * len(heading) + (0.16 if lanes else 0.0) if look.heading else 0.1
    head = top + lanes * LANE + 0.32
    caption = _wrapped(sheet, _CAPTION, _FINE)
    foot = 0.45 + 0.17 * len(caption) + 0.06
    height = head + sum(look.panels) + GAP * (len(look.panels) - 1) + foot
    figure.set_size_inches(look.width, height)
    axes: list[Axes] = []
    base = height - head
    for size in look.panels:
        box = (
            sheet.left / look.width,
            (base - size) / height,
            (sheet.right - sheet.left) / look.width,
            size / height,
        )
        axes.append(figure.add_axes(box, sharex=axes[0] if axes else None))
        base -= size + GAP
    for axis in axes:
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.grid(axis="y", color=look.faint, linewidth=0.8)
        axis.set_axisbelow(True)
        last = axis is axes[-1]
        axis.tick_params(axis="x", length=3 if last else 0, labelbottom=last)
        axis.tick_params(axis="y", length=0)
        axis.tick_params(labelsize=SMALL - 1 if look.narrow else NORMAL)
    _axis_of_time(axes[-1], sheet)
    if look.heading:
        _head(sheet, heading, height)
    for index, line in enumerate(reversed(caption)):
        y = (0.16 + 0.17 * index) / height
        figure.text(SIDE / look.width, y, line, fontsize=_FINE, va="center", color=look.quiet)
    return axes


def _axis_of_time(axis: Axes, sheet: Sheet) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter

    axis.set_xlim(sheet.start, sheet.end)
    start, end = sheet.start * _DAY, sheet.end * _DAY
    steps = (*_STEPS, *_LONG_STEPS)
    step = next((one for one in steps if (end - start) / one <= sheet.look.ticks), end - start)
    ticks = [step * index / _DAY for index in range(math.ceil(start / step), int(end / step) + 1)]
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _moment(value, step)))


def _moment(value: float, step: float) -> str:
    """A moment on the axis of time, as exact as the step from one to the next asks."""
    at = datetime.fromtimestamp(round(value * _DAY, 3), UTC)
    if step < 1:
        return f"{at:%H:%M:%S}.{at.microsecond // 100_000}"
    if step < 60:
        return f"{at:%H:%M:%S}"
    if step < _DAY and (at.hour, at.minute) != (0, 0):
        return f"{at:%H:%M}"
    return f"{at:%d %b}" if step < 300 * _DAY else f"{at:%b %Y}"


def _heading(sheet: Sheet) -> list[str]:
    """The lines below the model's name."""
    lines = _wrapped(sheet, sheet.timeline.summary, SMALL if sheet.look.narrow else NORMAL)
    return [*lines, when(sheet.timeline)] if sheet.look.narrow else lines


def _wrapped(sheet: Sheet, text: str, size: float) -> list[str]:
    letters = int((sheet.look.width - 2 * SIDE) * 72 / (size * 0.54))
    return textwrap.wrap(re.sub(r"[ \t\r\n]+", " ", text), letters)  # keeps spaces that bind


def _head(sheet: Sheet, lines: Sequence[str], height: float) -> None:
    look, side = sheet.look, SIDE / sheet.look.width
    common: dict[str, Any] = {"va": "center", "parse_math": False}
    y = 1 - 0.31 / height
    sheet.figure.text(side, y, sheet.timeline.model, fontsize=15, fontweight="bold", **common)
    if not look.narrow:
        period = when(sheet.timeline)
        sheet.figure.text(1 - side, y, period, ha="right", color=look.quiet, **common)
    size = SMALL if look.narrow else NORMAL
    for index, line in enumerate(lines):
        y = 1 - (0.6 + 0.2 * index) / height
        sheet.figure.text(side, y, line, fontsize=size, color=look.quiet, **common)
