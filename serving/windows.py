"""What this gateway counted of a model's inputs, by window, until it is brought to the others."""

from __future__ import annotations

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
        """Let the oldest window take in the next one of its version: no row is lost."""
        ordered = sorted(self._counts)
        for place, oldest in enumerate(ordered):
            for later in ordered[place + 1 :]:
                if later[1] == oldest[1]:
                    self._counts[later] = _sum(self._counts.pop(oldest), self._counts[later])
                    return


def _sum(one: InputCounts, other: InputCounts) -> InputCounts:
    return replace(
        other,
        generation=max(one.generation, other.generation),
        rows=one.rows + other.rows,
        counts=one.counts + other.counts,
    )
