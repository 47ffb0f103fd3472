"""What was answered, by window of time: counts for the detectors, and the last rows as values.

The answering thread only notes its batches; another one counts them.

Shapes: N rows, C watched columns.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monitoring.counting import Floats
from monitoring.dependence import Spacing
from monitoring.profile import stack
from registry.input_counts import InputCounts, window_of
from serving.runtime import Loaded, Outputs
from serving.windows import Windows

ROWS_AT_ONCE = 2048  # counted in one go: while numpy counts, the answering thread may have to wait
LAST_ROWS = 256  # kept as values, for what counts do not tell
BATCHES_KEPT = 50_000  # not folded yet; beyond this the oldest are not watched

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Batch:
    """What one batch of answers showed: observed inputs x (N, D), outputs (N, C)."""

    at: datetime
    champion: Loaded
    generation: int
    x: Tensor
    outputs: Outputs


class Noted:
    """The batches of one model.

    Args:
        model: The model's name.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._waiting: deque[Batch] = deque(maxlen=BATCHES_KEPT)
        self._folding = threading.Lock()
        self._windows = Windows()
        self._last_rows, self._last_digest = np.zeros((0, 0)), ""
        self._spacing = Spacing()

    @property
    def gap(self) -> int:
        """Every how many rows one is counted as evidence: 1 where they come independently."""
        return self._spacing.gap

    def note(self, batch: Batch) -> None:
        """Take note of a batch; called by the answering thread."""
        self._waiting.append(batch)

    def fold(self) -> None:
        """Count the batches noted since the last call, by window of time."""
        with self._folding:
            self._fold()

    def take(self, until: int | None = None) -> list[InputCounts]:
        """Take out what was counted in windows before one, of all noted so far; None: all."""
        with self._folding:
            self._fold()
            return self._windows.take(until)

    def last(self, most: int) -> Floats:
        """So many of the rows (N, C) counted last, at most LAST_ROWS, at least one if there is."""
        return self._last_rows[-max(1, min(most, LAST_ROWS)) :]

    def _fold(self) -> None:
        batches = [self._waiting.popleft() for _ in range(len(self._waiting))]
        for digest, own in _pieces(batches):
            try:
                counts, values = self._count(own)
            except Exception:
                # A user's observe may fail on anything; the predictions themselves are fine.
                logger.exception("a batch of %s could not be watched", self._model)
                continue
            for one in counts:
                self._windows.add(one)
            same = digest == self._last_digest and self._last_rows.shape[1] == values.shape[1]
            before = self._last_rows if same else values[:0]
            self._last_rows = np.vstack([before, values[-LAST_ROWS:]])[-LAST_ROWS:]
            self._last_digest = digest

    def _count(self, batches: Sequence[Batch]) -> tuple[list[InputCounts], Floats]:
        """What the batches of one version hold, by window, and the values (N, C) themselves.

        Where rows that are near in time are alike, only those go into the bins that are far
        enough apart; `rows` has all of them.
        """
        champion = batches[0].champion
        learner, profile = champion.learner, champion.profile
        outputs = np.concatenate([batch.outputs for batch in batches])
        observed = learner.observe(torch.cat([batch.x for batch in batches]))
        values = stack(
            observed, learner.predicted(outputs), learner.confidence(outputs), len(profile.features)
        )
        windows = [window_of(batch.at) for batch in batches]
        known = sorted(set(windows))
        place = {window: index for index, window in enumerate(known)}
        sizes = [len(batch.x) for batch in batches]
        part = np.repeat([place[window] for window in windows], sizes)
        kept = self._kept(values)
        counts = profile.count_parts(values[kept], part[kept], len(known))
        rows = np.bincount(part, minlength=len(known))
        generation = max(batch.generation for batch in batches)
        found = [
            InputCounts(self._model, window, champion.digest, generation, int(n), own.ravel())
            for window, n, own in zip(known, rows, counts, strict=True)
        ]
        return found, values

    def _kept(self, values: Floats) -> NDArray[np.bool_]:
        if self._spacing.columns != values.shape[1]:  # another version's columns
            self._spacing = Spacing(values.shape[1])
        return self._spacing.keep(values)


def _pieces(batches: Sequence[Batch]) -> Iterator[tuple[str, list[Batch]]]:
    """Batches of one version, with its digest, of no more rows than are counted at once."""
    piece: list[Batch] = []
    rows = 0
    for batch in batches:
        full = rows + len(batch.x) > ROWS_AT_ONCE
        if piece and (full or batch.champion.digest != piece[0].champion.digest):
            yield piece[0].champion.digest, piece
            piece, rows = [], 0
        piece.append(batch)
        rows += len(batch.x)
    if piece:
        yield piece[0].champion.digest, piece
