"""The picture of an explanation: for each change its bins before and after, and its course."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from monitoring.drawing import DPI, NORMAL, SMALL, number, to_png
from monitoring.explaining import BinShare, Shift
from monitoring.looks import LIGHT, Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 5  # changes that are drawn
_BINS = 12  # of one change that are drawn, those that moved most
_HEAD, _ROW, _FOOT = 0.9, 2.3, 0.55  # inches


def draw_shifts(
    title: str,
    shifts: Sequence[Shift],
    png_path: str | os.PathLike[str],
    look: Look = LIGHT,
) -> None:
    """Draw changes as a PNG, one below the other.

    Left the shares of the bins before (hatched) and after; right the course of the bin that moved
    most, or of the mean loss, with the estimated beginning and its interval.

    Args:
        title: What the picture is of.
        shifts: The changes, the clearest first; none gives a sheet that says so.
        png_path: The file; its folder is made.
        look: Colours and width.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = shifts[:MOST]
    height = _HEAD + _ROW * max(len(shown), 1) + _FOOT
    style: Any = {  # typed by matplotlib as hundreds of literals
        "font.family": "DejaVu Sans",
        "font.size": NORMAL,
        "axes.edgecolor": look.faint,
        "axes.facecolor": look.paper,
        "xtick.color": look.quiet,
        "ytick.color": look.quiet,
        "text.color": look.ink,
        "axes.titlecolor": look.ink,
        "hatch.linewidth": 0.5,
        "timezone": "UTC",
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(look.width, height), dpi=DPI, facecolor=look.paper)
        canvas = FigureCanvasAgg(figure)
        y = 1 - 0.32 / height
        figure.text(0.02, y, title, fontsize=13, fontweight="bold", va="center", parse_math=False)
        for index, shift in enumerate(shown):
            base = (height - _HEAD - _ROW * (index + 1) + 0.55) / height
            size = (_ROW - 0.95) / height
            _bars(figure.add_axes((0.06, base, 0.42, size)), shift, look)
            _course(figure.add_axes((0.55, base, 0.42, size)), shift, look)
        if not shown:
            figure.text(0.5, 0.5, "no clear change in the rows", ha="center", color=look.quiet)
        caption = (
            "Hatched: before, with the reference. Full: after. Line and shade: when it began, and"
            " the interval of that. Times in UTC."
        )
        figure.text(0.02, 0.2 / height, caption, fontsize=SMALL, va="center", color=look.quiet)
        path = Path(png_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_png(canvas))


def _bars(axis: Axes, shift: Shift, look: Look) -> None:
    bins = _worth(shift.bins)
    place = np.arange(len(bins))
    before = [one.before for one in bins]
    after = [one.after for one in bins]
    faint: Any = {"color": look.paper, "edgecolor": look.quiet, "hatch": "////", "linewidth": 0.8}
    axis.bar(place - 0.2, before, 0.4, **faint)
    axis.bar(place + 0.2, after, 0.4, color=look.versions[0])
    axis.set_xticks(place, [_short(one.name) for one in bins], rotation=25, ha="right")
    axis.set_title(shift.name, loc="left", fontsize=NORMAL, fontweight="bold", parse_math=False)
    _plain(axis, look)
    axis.tick_params(axis="x", labelsize=SMALL - 1.5)


def _course(axis: Axes, shift: Shift, look: Look) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    at = [number(point.at) for point in shift.course]
    axis.plot(
        at,
        [point.value for point in shift.course],
        color=look.versions[0],
        marker="o",
        markersize=2.5,
        linewidth=1.2,
    )
    if shift.since is not None:
        axis.axvspan(
            number(shift.since.low), number(shift.since.high), color=look.alarm, alpha=0.15
        )
        axis.axvline(number(shift.since.at), color=look.alarm, linewidth=1.4)
    locator = AutoDateLocator(maxticks=6)  # type: ignore[no-untyped-call] # matplotlib types it not
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call] # likewise
    moved = max(shift.bins, key=lambda one: abs(one.after - one.before), default=None)
    of = "mean" if shift.mean is not None else f"share of {moved.name if moved else ''}"
    axis.set_title(of, loc="left", fontsize=SMALL, color=look.quiet, parse_math=False)
    _plain(axis, look)


def _plain(axis: Axes, look: Look) -> None:
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.grid(axis="y", color=look.faint, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(length=0, labelsize=SMALL)


def _worth(bins: Sequence[BinShare]) -> list[BinShare]:
    """The bins to draw, in their order: all, or those that moved most."""
    held = [one for one in bins if one.before or one.after]
    most = sorted(held, key=lambda one: -abs(one.after - one.before))[:_BINS]
    return [one for one in held if one in most]


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"
