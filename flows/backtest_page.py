"""A backtest as one HTML file: its figures, and the accuracy of each rule over the rows.

The curves are inline SVG; nothing is fetched, no script runs. Rules are told apart by colour, dash
and the names at the ends of their lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from flows.backtest import Replayed
from flows.backtest_runs import Stream
from homeostat.errors import InputError

WIDTH, HEIGHT = 960.0, 300.0  # of the panel, in units of the picture
NAMES = 130.0  # beside it
LINE_HEIGHT = 15.0  # of a name
TICKS = (1, 2, 2.5, 5, 10)  # of the axis of rows, in powers of ten
_ENVIRONMENT = Environment(
    loader=PackageLoader("flows"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Curve:
    """One rule in the picture.

    Args:
        name: Of the rule.
        look: The number of its colour and dash.
        points: Of a polyline.
        end: Where its line ends, from the top.
        label: Where its name stands, from the top: names never cover one another.
        retrains: Where it put a new version in.
        refused: Where gates refused one.
        alarms: Where it alarmed.
    """

    name: str
    look: int
    points: str
    end: float
    label: float
    retrains: tuple[float, ...]
    refused: tuple[float, ...]
    alarms: tuple[float, ...]


@dataclass(frozen=True)
class Picture:
    """Accuracy over the rows of a stream.

    Args:
        curves: In the order of the rules.
        rows: Ticks of the rows: where, and what they say.
        levels: Likewise of the accuracy, from the top.
    """

    curves: tuple[Curve, ...]
    rows: tuple[tuple[float, str], ...]
    levels: tuple[tuple[float, str], ...]


def check_page(path: Path) -> None:
    """Refuse a file that cannot be written, before minutes were spent.

    Raises:
        InputError: its folder is not there, or it is a folder.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(
            f"The page cannot be written to {path}.",
            remedy="Name a file in a folder that is there.",
        )


def write_page(path: Path, model: str, done: Sequence[tuple[Stream, Sequence[Replayed]]]) -> None:
    """Write the page.

    Args:
        path: The file; one that is there is replaced.
        model: Whose policy it is.
        done: The streams, and what came of each rule over them.

    Raises:
        InputError: the file cannot be written.
    """
    sheets = [(stream, found, picture_of(stream, found)) for stream, found in done]
    template = _ENVIRONMENT.get_template("backtest.html.j2")
    text = template.render(model=model, sheets=sheets, width=WIDTH, height=HEIGHT, names=NAMES)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"The page cannot be written to {path}: {error.strerror}.",
            remedy="Name a file in a folder that you may write to.",
        ) from error


def picture_of(stream: Stream, found: Sequence[Replayed]) -> Picture:
    """Where everything stands in the picture of a stream."""
    warmup, last = stream.course.warmup, len(stream.dataset)
    courses = [one.curve(warmup) for one in found]
    lowest = min(accuracy for course in courses for _, accuracy in course)
    low = min(int(max(lowest, 0.0) * 10), 9) / 10  # the tenth below
    if low < 0.5:  # every other tenth is named, the top as well
        low = round(low * 10) // 2 * 2 / 10

    def across(row: int) -> float:
        return round(WIDTH * (row - warmup) / (last - warmup), 1)

    def down(accuracy: float) -> float:
        return round(HEIGHT * (1.0 - (accuracy - low) / (1.0 - low)), 1)

    ends = [down(course[-1][1]) for course in courses]
    labels = spread(ends, LINE_HEIGHT, HEIGHT)
    curves = tuple(
        Curve(
            name=one.rule,
            look=number,
            points=" ".join(f"{across(row):g},{down(accuracy):g}" for row, accuracy in course),
            end=ends[number],
            label=labels[number],
            retrains=tuple(across(row) for row in one.tally.retrains),
            refused=tuple(across(row) for row in one.tally.refused),
            alarms=tuple(across(row) for row in one.tally.alarms),
        )
        for number, (one, course) in enumerate(zip(found, courses, strict=True))
    )
    step = _step(last - warmup)
    rows = range(-(-warmup // step) * step, last + 1, step)
    tenths = range(round(low * 10), 11, 1 if low >= 0.5 else 2)
    return Picture(
        curves,
        tuple((across(row), f"{row:,}") for row in rows),
        tuple((down(tenth / 10), f"{tenth / 10:.1f}") for tenth in tenths),
    )


def spread(places: Sequence[float], least: float, most: float) -> list[float]:
    """Places moved apart, as little as it takes: in [0, most], `least` between two of them."""
    order = sorted(range(len(places)), key=lambda one: places[one])
    moved = [0.0] * len(places)
    floor = 0.0
    for at in order:
        moved[at] = floor = max(places[at], floor)
        floor += least
    ceiling = most
    for at in reversed(order):
        moved[at] = ceiling = min(moved[at], ceiling)
        ceiling -= least
    return moved


def _step(rows: int) -> int:
    """Rows between two ticks: a round number, about eight of them."""
    power = 10 ** max(len(str(rows // 8)) - 1, 0)
    return next(max(1, int(tick * power)) for tick in TICKS if 8 * tick * power >= rows * 0.75)
