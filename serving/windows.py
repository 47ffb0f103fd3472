"""What this gateway counted of a model's inputs, by window, until it is brought to the others."""

from __future__ import annotations

import itertools
from dataclasses import replace

from registry.input_counts import InputCounts

MOST = 600  # windows that wait, a minute of them; while the database is away the oldest grow wider


class Windows:
    """Counts by window and version."""

    def __init__(self) -> None:
        self._counts: dict[tuple[int, str], InputCounts] = {}

    def add(self, one: InputCounts) -> None:
        """Add counts to those of their window."""
        key = (one.window, one.digest)
        before = self._counts.get(key)
        self._counts[key] = one if before is None else _sum(before, one)
        if len(self._counts) > MOST:
            self._widen()

    def take(self, until: int | None = None) -> list[InputCounts]:
        """Take out the counts of windows before one; None: all."""
        keys = sorted(key for key in self._counts if until is None or key[0] < until)
        return [self._counts.pop(key) for key in keys]

    def _widen(self) -> None:
        """Let the oldest window of a version take in the next one of it: no row is lost."""
        ordered = sorted(self._counts)
        for first, second in itertools.pairwise(ordered):
            if first[1] == second[1]:
                self._counts[second] = _sum(self._counts.pop(first), self._counts[second])
                return


def _sum(one: InputCounts, other: InputCounts) -> InputCounts:
    return replace(
        other,
        generation=max(one.generation, other.generation),
        rows=one.rows + other.rows,
        counts=one.counts + other.counts,
    )
