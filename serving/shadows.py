"""Answers that nobody waits for: the standby's and a shadow challenger's, many rows at a time.

They are worked out on the way to the log, from what the spool keeps, so a killed process loses
none of them. What was answered before the routing moved to other versions is logged without. They
have a share of the time only: what would take more is left out, and counted, before it can hold up
an answer or the log.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from homeostat.errors import HomeostatError, LearnerError
from registry.blocks import to_numbers
from serving.entries import AS_FIRST, Entry, Unseen
from serving.fleet import Fleet
from serving.metrics import Metrics
from serving.runtime import Loaded, Outputs

ROWS_AT_ONCE = 256
SECONDS = 0.2  # that one version may take of each drain of the spool

logger = logging.getLogger(__name__)

Found = list[dict[int, Outputs]]  # of each entry, by version


Wanted = list[tuple[int, Entry, Unseen]]  # of one version: an entry's number, and what of it


@dataclass(slots=True)
class _Group:
    """What one version is asked: the encoded rows of entries, one after the other."""

    loaded: Loaded
    places: list[tuple[int, Sequence[int]]] = field(default_factory=list)  # an entry's, and in it
    parts: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, loaded: Loaded, wanted: Wanted) -> _Group:
        """Read the rows: all at once where they are plain numbers and each can be used."""
        group = cls(loaded)
        if not group._add_at_once(wanted):
            for number, entry, unseen in wanted:
                group.add(number, entry, unseen)
        return group

    def _add_at_once(self, wanted: Wanted) -> bool:
        size = self.loaded.learner.row_size
        if not size or any(one.x or entry.answered.columns != size for _, entry, one in wanted):
            return False
        places: list[tuple[int, Sequence[int]]] = [
            (number, range(entry.answered.count) if one.rows is None else one.rows)
            for number, entry, one in wanted
        ]
        try:
            self.parts = [self.loaded.encode_array(_numbers(wanted))]
        except HomeostatError:
            return False
        self.places = places
        return True

    def add(self, number: int, entry: Entry, unseen: Unseen) -> None:
        """Take the rows of an entry that are to be asked."""
        answered, rows = entry.answered, unseen.rows
        if rows is None:
            rows = list(range(answered.count))
        kept = entry.unseen[0] if unseen.columns == AS_FIRST else unseen
        if kept.x:
            x = np.frombuffer(kept.x, np.float32).reshape(-1, kept.columns)
            self._take(number, rows, torch.from_numpy(x.copy()))
            return
        try:
            if answered.columns and answered.columns == self.loaded.learner.row_size:
                numbers = answered.numbers()
                own = numbers if unseen.rows is None else numbers[rows]
                self._take(number, rows, self.loaded.encode_array(own))
            else:
                values = answered.values()
                self._take(number, rows, self.loaded.encode([values[row] for row in rows]))
        except HomeostatError:
            self._add_singly(number, rows, answered.values())

    def _add_singly(self, number: int, rows: Sequence[int], values: Sequence[object]) -> None:
        for row in rows:
            try:
                self._take(number, [row], self.loaded.encode([values[row]]))
            except HomeostatError as error:
                logger.debug("a version that answers unseen cannot read a row: %s", error)

    def _take(self, number: int, rows: Sequence[int], x: Tensor) -> None:
        self.places.append((number, rows))
        self.parts.append(x)


class Shadows:
    """Asks the versions that answer unseen.

    Args:
        fleet: Which has them loaded.
        metrics: Counts where they fail, and what was left out.
        failed: Hears of the model and version of each row that one failed.
        seconds: That one version may take of each call, by the clock of its thread, or by the
            wall's where it runs in a process of its own.
    """

    def __init__(
        self,
        fleet: Fleet,
        metrics: Metrics,
        failed: Callable[[str, int], None] = lambda _model, _version: None,
        seconds: float = SECONDS,
    ) -> None:
        self._fleet = fleet
        self._metrics = metrics
        self._failed = failed
        self._seconds = seconds

    def ask(self, entries: Sequence[Entry]) -> Found:
        """Outputs (n, C) of each version for each entry, with NaN where it has none."""
        wanted: dict[tuple[str, int, str], Wanted] = {}
        for number, entry in enumerate(entries):
            for unseen in entry.unseen:
                key = (entry.model, unseen.version, unseen.digest)
                wanted.setdefault(key, []).append((number, entry, unseen))
        found: Found = [{} for _ in entries]
        for key, asked in wanted.items():
            loaded = self._find(*key)
            group = _Group.of(loaded, asked) if loaded is not None else None
            outputs = self._answer(group) if group is not None and group.parts else None
            if group is None or outputs is None:
                continue
            start, lacking = 0, bool(np.isnan(outputs).any())
            for number, rows in group.places:
                own = outputs[start : start + len(rows)]
                start += len(rows)
                if lacking and np.isnan(own).all():
                    continue
                _put(found[number], group.loaded.version, entries[number].answered.count, rows, own)
        return found

    def _find(self, model: str, version: int, digest: str) -> Loaded | None:
        split = self._fleet.snapshot().get(model)
        loaded = split.find(version) if split is not None else None
        return loaded if loaded is not None and loaded.digest == digest else None

    def _answer(self, group: _Group) -> Outputs | None:
        """Outputs (N, C) while there is time; NaN where there are none; None: nowhere."""
        x, loaded = torch.cat(group.parts), group.loaded
        clock = time.perf_counter if loaded.apart else time.thread_time
        until = clock() + self._seconds
        parts: list[Outputs | int] = []  # outputs, or how many rows have none
        for start in range(0, len(x), ROWS_AT_ONCE):
            if start and clock() > until:
                self._metrics.unasked.labels(loaded.model, loaded.version).inc(len(x) - start)
                parts.append(len(x) - start)
                break
            part = x[start : start + ROWS_AT_ONCE]
            try:
                parts.append(_predict(loaded, part))
            except HomeostatError:
                parts += [self._answer_one(loaded, row[None]) for row in part]
        width = next((part.shape[1] for part in parts if not isinstance(part, int)), 0)
        if not width:
            return None
        return np.concatenate(
            [
                np.full((part, width), np.nan, np.float32) if isinstance(part, int) else part
                for part in parts
            ]
        )

    def _answer_one(self, loaded: Loaded, x: Tensor) -> Outputs | int:
        """A row that the version fails has no output, and is counted."""
        try:
            return _predict(loaded, x)
        except HomeostatError as error:
            if isinstance(error, LearnerError):
                self._metrics.failures.labels(loaded.model, loaded.version).inc()
                self._failed(loaded.model, loaded.version)
            return 1


def _numbers(wanted: Wanted) -> NDArray[np.float32] | NDArray[np.float64]:
    """The numbers that are to be asked (N, D); an array for each entry would cost most of it."""
    answered = [entry.answered for _, entry, _ in wanted]
    if all(one.rows is None for *_, one in wanted) and len({one.exact for one in answered}) == 1:
        joined = b"".join(one.rows for one in answered)
        return to_numbers(joined, answered[0].columns, exact=answered[0].exact)
    return np.concatenate(
        [
            one.numbers() if unseen.rows is None else one.numbers()[unseen.rows]
            for one, (_, _, unseen) in zip(answered, wanted, strict=True)
        ]
    )


def _put(
    found: dict[int, Outputs], version: int, count: int, rows: Sequence[int], own: Outputs
) -> None:
    """Put the outputs of some rows of an entry where they belong."""
    if len(rows) == count:
        found[version] = own
        return
    if version not in found:
        found[version] = np.full((count, own.shape[1]), np.nan, np.float32)
    found[version][list(rows)] = own


def _predict(loaded: Loaded, x: Tensor) -> Outputs:
    outputs = loaded.predict(x)
    if not np.isfinite(outputs).all():
        raise loaded.not_finite()
    return outputs
