"""Answers counted by what gave them: the measured side of what is compared in `serving.proof`."""

from __future__ import annotations

from collections.abc import Mapping

Key = tuple[int, int, str]  # generation, version, digest


class Counted:
    """Rows answered, by the generation, version and digest of what answered them.

    Fed by the answering thread alone; whoever reads it may be a batch behind.
    """

    def __init__(self) -> None:
        self._rows: dict[str, dict[Key, int]] = {}

    def add(self, model: str, key: Key, rows: int) -> None:
        """Count rows as they leave."""
        counts = self._rows.get(model)
        if counts is None:
            counts = self._rows[model] = {}
        counts[key] = counts.get(key, 0) + rows

    def rows(self, model: str) -> Mapping[Key, int]:
        """All rows of a model so far."""
        return dict(self._rows.get(model, {}))
