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

from homeostat.errors import HomeostatError, LearnerError
from serving.entries import AS_FIRST, Entry, Unseen, parse_request
from serving.fleet import Fleet
from serving.metrics import Metrics
from serving.runtime import Loaded, Outputs

ROWS_AT_ONCE = 256
SECONDS = 0.2  # that one version may take of each drain of the spool

logger = logging.getLogger(__name__)

Place = tuple[int, int]  # of a request: of its entry, and in it
Rows = NDArray[np.float32 | np.float64]
Found = list[dict[int, dict[int, Outputs]]]  # of each entry: by version, by place


@dataclass(slots=True)
class _Group:
    """What one version is asked: the encoded rows of requests, one after the other."""

    loaded: Loaded
    places: list[Place] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    parts: list[Rows] = field(default_factory=list)

    def add(self, number: int, entry: Entry, unseen: Unseen) -> None:
        """Take the requests of an entry that are to be asked."""
        kept = entry.asked[0] if unseen.columns == AS_FIRST else unseen
        if kept.x:
            for place in unseen.requests:
                self.places.append((number, place))
                self.rows.append(entry.requests[place].rows)
            self.parts.append(np.frombuffer(kept.x, np.float32).reshape(-1, kept.columns))
            return
        for place in unseen.requests:
            request = entry.requests[place]
            try:
                x = self.loaded.encode(parse_request(request.body, request.rows).rows)
            except HomeostatError as error:
                logger.debug("a version that answers unseen cannot read a request: %s", error)
                continue
            self.places.append((number, place))
            self.rows.append(request.rows)
            self.parts.append(x.numpy())


class Shadows:
    """Asks the versions that answer unseen.

    Args:
        fleet: Which has them loaded.
        metrics: Counts where they fail, and what was left out.
        failed: Hears of the model and version of each request that one failed.
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
        """Outputs (n, C) of each version by the place of the request, for each entry."""
        groups: dict[tuple[str, int, str], _Group | None] = {}
        for number, entry in enumerate(entries):
            for unseen in entry.asked:
                key = (entry.model, unseen.version, unseen.digest)
                if key not in groups:
                    loaded = self._find(*key)
                    groups[key] = _Group(loaded) if loaded else None
                group = groups[key]
                if group is not None:
                    group.add(number, entry, unseen)
        found: Found = [{} for _ in entries]
        for group in groups.values():
            if group is not None and group.parts:
                self._answer(group, found)
        return found

    def _find(self, model: str, version: int, digest: str) -> Loaded | None:
        split = self._fleet.snapshot().get(model)
        loaded = split.find(version) if split is not None else None
        return loaded if loaded is not None and loaded.digest == digest else None

    def _answer(self, group: _Group, found: Found) -> None:
        """Ask for whole requests, about `ROWS_AT_ONCE` rows at a time, while there is time."""
        x, loaded = np.concatenate(group.parts), group.loaded
        stops = np.cumsum(group.rows).tolist()
        clock = time.perf_counter if loaded.apart else time.thread_time
        until = clock() + self._seconds
        first = 0
        while first < len(stops):
            if first and clock() > until:
                dropped = stops[-1] - stops[first - 1]
                self._metrics.unasked.labels(loaded.model, loaded.version).inc(dropped)
                return
            start = stops[first - 1] if first else 0
            last = first + 1
            while last < len(stops) and stops[last] - start <= ROWS_AT_ONCE:
                last += 1
            try:
                self._ask(group, x, stops, first, last, found)
            except HomeostatError:
                self._ask_singly(group, x, stops, first, last, found)
            first = last

    def _ask(
        self, group: _Group, x: Rows, stops: list[int], first: int, last: int, found: Found
    ) -> None:
        start = stops[first - 1] if first else 0
        outputs = _predict(group.loaded, x[start : stops[last - 1]])
        for index in range(first, last):
            number, place = group.places[index]
            own = outputs[stops[index] - group.rows[index] - start : stops[index] - start]
            found[number].setdefault(group.loaded.version, {})[place] = own

    def _ask_singly(
        self, group: _Group, x: Rows, stops: list[int], first: int, last: int, found: Found
    ) -> None:
        """A request that the version fails has no output, and is counted."""
        for index in range(first, last):
            try:
                self._ask(group, x, stops, index, index + 1, found)
            except HomeostatError as error:
                if isinstance(error, LearnerError):
                    labels = (group.loaded.model, group.loaded.version)
                    self._metrics.failures.labels(*labels).inc()
                    self._failed(*labels)


def _predict(loaded: Loaded, x: Rows) -> Outputs:
    outputs = loaded.predict(torch.from_numpy(x))
    if not np.isfinite(outputs).all():
        raise loaded.not_finite()
    return outputs
