"""The standby's answers, which nobody waits for: asked many rows at a time, on the way to the log.

They are worked out from what the spool keeps, so a killed process loses none of them. What was
answered before the routing moved to another standby is logged without.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from homeostat.errors import HomeostatError, LearnerError
from serving.entries import Entry, Unseen, parse_request
from serving.fleet import Fleet
from serving.metrics import Metrics
from serving.runtime import Loaded, Outputs

ROWS_AT_ONCE = 256

logger = logging.getLogger(__name__)

Place = tuple[int, int]  # of a request: of its entry, and in it
Rows = NDArray[np.float32 | np.float64]


@dataclass(slots=True)
class _Group:
    """What one standby is asked: the encoded rows of requests, one after the other."""

    loaded: Loaded
    places: list[Place] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    parts: list[Rows] = field(default_factory=list)

    def add(self, number: int, entry: Entry, unseen: Unseen) -> None:
        """Take the requests of an entry that are to be asked."""
        if unseen.x:
            for place in unseen.requests:
                self.places.append((number, place))
                self.rows.append(entry.requests[place].rows)
            self.parts.append(np.frombuffer(unseen.x, np.float32).reshape(-1, unseen.columns))
            return
        for place in unseen.requests:
            request = entry.requests[place]
            try:
                x = self.loaded.encode(parse_request(request.body, request.rows).rows)
            except HomeostatError as error:
                logger.debug("the standby cannot read a request: %s", error)
                continue
            self.places.append((number, place))
            self.rows.append(request.rows)
            self.parts.append(x.numpy())


class Shadows:
    """Asks the standbys.

    Args:
        fleet: Which has them loaded.
        metrics: Counts where they fail.
    """

    def __init__(self, fleet: Fleet, metrics: Metrics) -> None:
        self._fleet = fleet
        self._metrics = metrics

    def ask(self, entries: Sequence[Entry]) -> list[dict[int, Outputs]]:
        """Outputs (n, C) of the standby by the place of the request, for each entry."""
        groups: dict[tuple[str, int, str], _Group | None] = {}
        for number, entry in enumerate(entries):
            unseen = entry.unseen
            if unseen is None:
                continue
            key = (entry.model, unseen.version, unseen.digest)
            if key not in groups:
                loaded = self._standby(*key)
                groups[key] = _Group(loaded) if loaded else None
            group = groups[key]
            if group is not None:
                group.add(number, entry, unseen)
        found: list[dict[int, Outputs]] = [{} for _ in entries]
        for group in groups.values():
            if group is not None and group.parts:
                self._answer(group, found)
        return found

    def _standby(self, model: str, version: int, digest: str) -> Loaded | None:
        split = self._fleet.snapshot().get(model)
        loaded = split.find(version) if split is not None else None
        return loaded if loaded is not None and loaded.digest == digest else None

    def _answer(self, group: _Group, found: list[dict[int, Outputs]]) -> None:
        x = np.concatenate(group.parts)
        stops = np.cumsum(group.rows).tolist()
        try:
            every = [
                _predict(group.loaded, x[start : start + ROWS_AT_ONCE])
                for start in range(0, len(x), ROWS_AT_ONCE)
            ]
        except HomeostatError:
            self._answer_singly(group, x, stops, found)
            return
        outputs = np.concatenate(every)
        for (number, place), rows, stop in zip(group.places, group.rows, stops, strict=True):
            found[number][place] = outputs[stop - rows : stop]

    def _answer_singly(
        self, group: _Group, x: Rows, stops: list[int], found: list[dict[int, Outputs]]
    ) -> None:
        """A request that the standby fails has no output, and is counted."""
        for (number, place), rows, stop in zip(group.places, group.rows, stops, strict=True):
            try:
                found[number][place] = _predict(group.loaded, x[stop - rows : stop])
            except HomeostatError as error:
                if isinstance(error, LearnerError):
                    labels = (group.loaded.model, group.loaded.version)
                    self._metrics.failures.labels(*labels).inc()


def _predict(loaded: Loaded, x: Rows) -> Outputs:
    outputs = loaded.predict(torch.from_numpy(x))
    if not np.isfinite(outputs).all():
        raise loaded.not_finite()
    return outputs
