"""Losses held back until their predictions are old enough to count, then given by their age.

Labels of wrong answers often come sooner than those of right ones (somebody complains). Taken as
they come they look like a fall of accuracy that is none: with errors labelled after 100 rows and
right answers after 1,000, false alarms rose twentyfold. Held until the slow labels are in as
well, the losses of one stretch of time are judged together.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable
from datetime import datetime

from registry.losses import LabelledLoss

Held = tuple[int, LabelledLoss]  # with the generation of the routing that its label came under


class Maturing:
    """Held losses of each model, by the moment of their predictions."""

    def __init__(self) -> None:
        self._held: dict[str, list[Held]] = {}

    def add(self, model: str, generation: int, rows: Iterable[LabelledLoss]) -> None:
        """Hold losses back whose labels came under a generation."""
        held = self._held.setdefault(model, [])
        for row in rows:
            bisect.insort(held, (generation, row), key=_moment)  # mostly at the end

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
