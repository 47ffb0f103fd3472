"""A batch of requests in one encoding: one call for all rows, and the culprit found if it fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from homeostat.errors import HomeostatError
from models.learner import Row
from serving.runtime import Loaded


@dataclass(frozen=True, slots=True)
class Encoded:
    """Requests in one encoding.

    Args:
        x: (N, D) the rows of all good requests.
        spans: Where each request's rows are in `x`, or what is wrong with it.
        good: How many requests are good.
    """

    x: Tensor
    spans: list[slice | HomeostatError]
    good: int

    def has(self, indices: Sequence[int]) -> bool:
        """Whether all these requests are good."""
        if self.good == len(self.spans):
            return True
        return all(isinstance(self.spans[index], slice) for index in indices)

    def rows(self, indices: Sequence[int]) -> Tensor:
        """The rows of some of the good requests; without a copy where that is all of them."""
        if len(indices) == self.good:
            return self.x
        spans = (self.spans[index] for index in indices)
        return torch.cat([self.x[span] for span in spans if isinstance(span, slice)])


def encode(loaded: Loaded, requests: Sequence[Sequence[Row]]) -> Encoded:
    """Encode the rows of requests as a version does."""
    try:
        x = loaded.encode([row for rows in requests for row in rows])
    except HomeostatError as error:
        if len(requests) == 1:
            return Encoded(torch.zeros(0, 0), [error], 0)
        return _one_by_one(loaded, requests)
    spans: list[slice | HomeostatError] = []
    start = 0
    for rows in requests:
        spans.append(slice(start, start + len(rows)))
        start += len(rows)
    return Encoded(x, spans, len(requests))


def _one_by_one(loaded: Loaded, requests: Sequence[Sequence[Row]]) -> Encoded:
    """Find whose row it was; the others are none the worse."""
    parts: list[Tensor] = []
    spans: list[slice | HomeostatError] = []
    start = 0
    for rows in requests:
        try:
            parts.append(loaded.encode(rows))
        except HomeostatError as error:
            spans.append(error)
            continue
        spans.append(slice(start, start + len(rows)))
        start += len(rows)
    return Encoded(torch.cat(parts) if parts else torch.zeros(0, 0), spans, len(parts))
