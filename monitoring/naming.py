"""What a panel of a timeline's picture is called, and what its lines are, right of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from monitoring.drawing import SIDE, SMALL, Sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass
class End:
    """The name of a line, right of its panel, at the height of the line's last point."""

    height: float
    name: str
    sample: dict[str, Any] = field(default_factory=dict)


def title(axis: Axes, sheet: Sheet, text: str) -> None:
    """Name a panel above its left end."""
    axis.annotate(
        text,
        (0, 1),
        ((SIDE - sheet.left) * 72, 7),
        xycoords="axes fraction",
        textcoords="offset points",
        fontweight="bold",
        bbox={"facecolor": sheet.look.paper, "edgecolor": "none", "pad": 1.5},
        zorder=6,
    )


def name_ends(axis: Axes, sheet: Sheet, ends: Sequence[End]) -> None:
    """Name lines to the right of the panel, each with a sample of it, pushed apart if need be."""
    low, high = axis.get_ylim()
    point = (high - low) / (axis.get_position().height * sheet.figure.get_figheight() * 72)
    where = axis.get_yaxis_transform()
    spot = [1 + distance / sheet.points_wide for distance in (6, 14, 22)]
    ends = sorted(ends, key=lambda end: end.height)
    sizes = [(5 + 11 * (1 + end.name.count("\n"))) * point for end in ends]
    heights = _apart([end.height for end in ends], sizes, low, high)
    for height, end in zip(heights, ends, strict=True):
        axis.plot(
            spot,
            [height] * 3,
            transform=where,
            clip_on=False,
            linewidth=1.8,
            markersize=4.6,
            markevery=[1],
            **end.sample,
        )
        axis.annotate(
            end.name,
            (spot[-1], height),
            (5, 0),
            xycoords=where,
            textcoords="offset points",
            va="center",
            linespacing=1.0,
            color=end.sample["color"],
            fontsize=SMALL,
            fontweight="bold",
            annotation_clip=False,
            parse_math=False,
        )


def _apart(heights: list[float], sizes: list[float], low: float, high: float) -> list[float]:
    """Heights in order, moved so that none overlaps the next, within [low, high] if they fit."""
    placed: list[float] = []
    for index, (height, size) in enumerate(zip(heights, sizes, strict=True)):
        floor = low + size / 2 if index == 0 else placed[-1] + (sizes[index - 1] + size) / 2
        placed.append(max(height, floor) if index else max(height, low))
    ceiling = high
    for index in reversed(range(len(placed))):
        placed[index] = min(placed[index], ceiling)
        if index:
            ceiling = placed[index] - (sizes[index - 1] + sizes[index]) / 2
    return placed


def nothing(axis: Axes, sheet: Sheet, text: str) -> None:
    """Say in the middle of a panel why it is empty."""
    axis.text(
        0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color=sheet.look.quiet
    )
