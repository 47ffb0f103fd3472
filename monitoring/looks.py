"""How a timeline's picture looks: colours for a light and a dark page, sizes for desk and phone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

VERSION_MARKERS = ("o", "s", "D", "^", "v", "P")
VERSION_HATCHES = ("", "////", "....", "\\\\\\\\", "xx", "++")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.2, 1.4)), (0, (6, 2, 1.2, 2)), (0, (3, 1)))


@dataclass(frozen=True)
class Look:
    """Colours and sizes of a picture.

    Args:
        paper: Behind everything.
        ink: Of what is read first.
        quiet: Of what is read next.
        faint: Of lines that only guide.
        alarm: Of incidents and rollbacks.
        calm: Of their end.
        move: Of a new champion.
        work: Of a retrain.
        versions: A colour for each version, in the order of number.
        detectors: A colour for each detector.
        width: In inches.
        panels: Heights in inches: accuracy, evidence, traffic.
        left: From the sheet's side to the panels, in inches.
        ticks: At most so many moments on the axis of time.
        narrow: Whether the sheet is too narrow for two texts beside one another.
        heading: Whether the sheet names the model, the time and what happened.
    """

    paper: str = "#ffffff"
    ink: str = "#1c2430"
    quiet: str = "#5b6675"
    faint: str = "#dfe3e9"
    alarm: str = "#b2182b"
    calm: str = "#1b7837"
    move: str = "#0a5c94"
    work: str = "#6a51a3"
    # Okabe and Ito's palette, which stays apart for the colour-blind, a little darker.
    versions: tuple[str, ...] = ("#0072b2", "#c77f00", "#00855f", "#b5548e", "#2f8fc4", "#d55e00")
    detectors: tuple[str, ...] = ("#7b3294", "#b35806", "#1b7837", "#35506b", "#8c2d04")
    width: float = 12.0
    panels: tuple[float, float, float] = (3.1, 1.65, 1.15)
    left: float = 0.92
    ticks: int = 10
    narrow: bool = False
    heading: bool = True


_DARK: dict[str, Any] = {
    "paper": "#1c222b",
    "ink": "#e6e9ee",
    "quiet": "#a3adbb",
    "faint": "#343c48",
    "alarm": "#ff7b80",
    "calm": "#6cc98a",
    "move": "#74b9ec",
    "work": "#b8a6ee",
    "versions": ("#56b4e9", "#f0b040", "#35c99b", "#e69ac6", "#a5d8f6", "#ff9351"),
    "detectors": ("#cf9be6", "#f5a55a", "#74cf91", "#a9bfd6", "#e8946f"),
}
_NARROW: dict[str, Any] = {
    "width": 4.7,
    "panels": (2.2, 1.4, 0.95),
    "left": 0.66,
    "ticks": 5,
    "narrow": True,
}
LIGHT = Look()
# Those of the page, which says itself what it is about.
LOOKS = {
    "light": Look(heading=False),
    "dark": Look(heading=False, **_DARK),
    "light_narrow": Look(heading=False, **_NARROW),
    "dark_narrow": Look(heading=False, **_DARK, **_NARROW),
}
