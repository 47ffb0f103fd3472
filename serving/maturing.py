"""Losses held back until they may count, then given by the moment of their predictions.

Labels of wrong answers often come sooner than those of right ones (somebody complains). Taken as
they come they look like a fall of accuracy that is none: with errors labelled after 100 rows and
right answers after 1,000, false alarms rose twentyfold. Held until the slow labels are in as
well, the losses of one stretch of time are judged together.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from registry.losses import LabelledLoss

Held = tuple[int, LabelledLoss]  # with the generation of the routing that its label came under
MOST = 200_000  # losses held of one model: the oldest of more count, whatever they wait for


@dataclass(frozen=True)
class Place:
    """How far a model's detectors have come.

    Args:
        call: The last call that was taken in; one after it was not.
        until: What of those calls was predicted later waits still; None: nothing ever waited.
    """

    call: int
    until: datetime | None = None


class Maturing:
    """Held losses of each model, by the moment of their predictions."""

    def __init__(self) -> None:
        self._held: dict[str, list[Held]] = {}

    def add(self, model: str, generation: int, rows: Iterable[LabelledLoss]) -> None:
        """Hold losses back whose labels came under a generation."""
        held = self._held.setdefault(model, [])
        for row in rows:
            bisect.insort(held, (generation, row), key=_moment)  # mostly at the end

    def oldest(self, model: str) -> datetime | None:
        """When the first of what is held was predicted."""
        held = self._held.get(model)
        return _moment(held[0]) if held else None

    def count(self, model: str) -> int:
        """How many are held."""
        return len(self._held.get(model, ()))

    def surplus(self, model: str) -> datetime | None:
        """When the last was predicted of those beyond `MOST`; None where there are not so many."""
        held = self._held.get(model, [])
        return _moment(held[-MOST - 1]) if len(held) > MOST else None

    def ripe(self, model: str, until: datetime) -> list[tuple[int, list[LabelledLoss]]]:
        """Take out what was predicted at a moment or before, oldest first, by generation."""
        held = self._held.get(model, [])
        count = bisect.bisect_right(held, until, key=_moment)
        taken = held[:count]
        del held[:count]
        return [
            (generation, [row for _, row in own])
            for generation, own in itertools.groupby(taken, key=lambda one: one[0])
        ]

    def forget(self, model: str) -> None:
        """Hold nothing back any more."""
        self._held.pop(model, None)


def _moment(held: Held) -> datetime:
    return held[1].at
