"""What a report is to compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from homeostat.errors import InputError
from monitoring.report import Preset

# What a page is made by; None: by the preset of the model's task.
PRESETS: Mapping[str, Preset | None] = {"drift": "drift", "quality": "quality", "performance": None}


@dataclass(frozen=True)
class Wanted:
    """What is to be compared.

    Args:
        hours: How far back, where no window is given.
        presets: Of `PRESETS`.
        start: Of the window; None: by the incident or by `hours`.
        end: Of the window; None: now.
        against: See `flows.windows.other_side`.
        incident: The incident whose rows are wanted, or empty.

    Raises:
        InputError: an unknown preset.
    """

    hours: float = 24.0
    presets: tuple[str, ...] = ("drift",)
    start: datetime | None = None
    end: datetime | None = None
    against: str = ""
    incident: str = ""

    def __post_init__(self) -> None:
        for preset in self.presets:
            if preset not in PRESETS:
                known = ", ".join(PRESETS)
                raise InputError(f"There is no preset '{preset}'.", remedy=f"Known: {known}.")
