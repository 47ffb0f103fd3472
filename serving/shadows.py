"""The standby's answers, which nobody waits for: asked many rows at a time, on the way to the log.

They are worked out from what the spool keeps, so a killed process loses none of them. What was
answered before the routing moved to another standby is logged without.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from homeostat.errors import HomeostatError, LearnerError
from serving.entries import Entry, Spooled, Unseen, parse_request
from serving.fleet import Fleet
from serving.metrics import Metrics
from serving.runtime import Loaded, Outputs

ROWS_AT_ONCE = 256

logger = logging.getLogger(__name__)

Place = tuple[int, int]  # of a request: of its entry, and in it


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
        found: list[dict[int, Outputs]] = [{} for _ in entries]
        groups: dict[int, tuple[Loaded, list[tuple[Place, Tensor]]]] = {}
        for number, entry in enumerate(entries):
            loaded = self._standby(entry)
            if loaded is None or entry.unseen is None:
                continue
            _, parts = groups.setdefault(id(loaded), (loaded, []))
            parts += [((number, place), x) for place, x in _parts(loaded, entry, entry.unseen)]
        for loaded, parts in groups.values():
            for chunk in _chunks(parts):
                for (number, place), outputs in self._outputs(loaded, chunk):
                    found[number][place] = outputs
        return found

    def _standby(self, entry: Entry) -> Loaded | None:
        split = self._fleet.snapshot().get(entry.model)
        if split is None or entry.unseen is None:
            return None
        loaded = split.find(entry.unseen.version)
        return loaded if loaded is not None and loaded.digest == entry.unseen.digest else None

    def _outputs(
        self, loaded: Loaded, parts: Sequence[tuple[Place, Tensor]]
    ) -> list[tuple[Place, Outputs]]:
        """Outputs of each request; one that the standby fails has none."""
        try:
            outputs = loaded.predict(torch.cat([x for _, x in parts]))
            if not np.isfinite(outputs).all():
                raise loaded.not_finite()
        except HomeostatError as error:
            if len(parts) > 1:
                return [one for part in parts for one in self._outputs(loaded, [part])]
            if isinstance(error, LearnerError):
                self._metrics.failures.labels(loaded.model, loaded.version).inc()
            return []
        found, start = [], 0
        for place, x in parts:
            found.append((place, outputs[start : start + len(x)]))
            start += len(x)
        return found


def _parts(loaded: Loaded, entry: Entry, unseen: Unseen) -> list[tuple[int, Tensor]]:
    """The encoded rows of each request that is asked."""
    if not unseen.x:
        found = []
        for place in unseen.requests:
            try:
                found.append((place, _encoded(loaded, entry.requests[place])))
            except HomeostatError as error:
                logger.debug("the standby cannot read a request: %s", error)
        return found
    x = torch.from_numpy(np.frombuffer(bytearray(unseen.x), np.float32)).view(-1, unseen.columns)
    found, start = [], 0
    for place in unseen.requests:
        stop = start + entry.requests[place].rows
        found.append((place, x[start:stop]))
        start = stop
    return found


def _encoded(loaded: Loaded, request: Spooled) -> Tensor:
    return loaded.encode(parse_request(request.body, max_rows=request.rows).rows)


def _chunks(parts: Sequence[tuple[Place, Tensor]]) -> list[list[tuple[Place, Tensor]]]:
    chunks: list[list[tuple[Place, Tensor]]] = []
    rows = ROWS_AT_ONCE
    for part in parts:
        if rows + len(part[1]) > ROWS_AT_ONCE:
            chunks.append([])
            rows = 0
        chunks[-1].append(part)
        rows += len(part[1])
    return chunks
