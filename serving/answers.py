"""What is asked and answered within a batch, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from homeostat.errors import HomeostatError
from models.learner import Row
from serving.runtime import Loaded, Outputs

SAMPLE_ROWS = 16
PINNED = "pinned"
RESERVED = ("id", "version")  # of an answer: what a learner says under these names is left out

Reason = Literal["champion", "canary-share", "canary-entity", "pinned"]


@dataclass(slots=True)
class Request:
    """One request's rows as parsed, and whom they are about (one name for all, or one each).

    `version` is who alone may answer; 0: whoever does. `pinned`: it may be one that answers nobody
    else, if it is loaded.
    """

    rows: Sequence[Row]
    entity: str | list[str] | None = None
    numbers: bool = False
    """Each row is a list of as many floats as the model takes."""
    version: int = 0
    pinned: bool = False


@dataclass(slots=True)
class Answer:
    """What one request gets.

    Args:
        loaded: The version that answers.
        arm: Its role: `champion` or `challenger`; `pinned` where the caller chose it.
        ids: A prediction id per row.
        outputs: (n, C) of the answering version.
        predictions: Each row's answer as JSON values, with `id` and `version`.
        shadows: Outputs (n, C) by version of the others that were asked at once.
        reason: Why this version answers.
    """

    loaded: Loaded
    arm: str
    ids: list[str]
    outputs: Outputs
    predictions: list[dict[str, Any]]
    shadows: dict[int, Outputs]
    reason: Reason = "champion"


@dataclass(slots=True)
class Told:
    """A batch of plain numbers, all of it answered by the champion: as columns.

    Args:
        loaded: The version that answers.
        ids: A prediction id per row.
        values: The rows (n, D).
        outputs: (n, C).
        lines: What each row is told beside id and version, as JSON, one a line.
        asked: Who answers unseen, and the places of the rows that it is to be asked; None: all.
    """

    loaded: Loaded
    ids: list[str]
    values: NDArray[np.float64]
    outputs: Outputs
    lines: bytes
    asked: list[tuple[Loaded, list[int] | None]]


@dataclass(slots=True)
class Asked:
    """What a version is to be asked that answers unseen, once the answers have left.

    Args:
        loaded: The version.
        requests: Places of requests that were answered.
        x: (N, D) their rows, where it encodes rows as the champion does.
    """

    loaded: Loaded
    requests: Sequence[int]
    x: Tensor | None


@dataclass(slots=True)
class Answered:
    """A whole batch, done.

    Args:
        results: An answer or an error for each request, in order; of no use beside `told`.
        observed: Encoded rows (N, D) that the champion has outputs for, for the monitors.
        outputs: (N, C) of the champion on them.
        failures: Failing requests of each version.
        champion_alone_failed: Requests that the champion failed and the standby did not.
        sample: Some rows as they came, to try a new version on.
        asked: What is still to be asked of those that answer unseen.
        told: The answers of the usual batch, instead of `results` and `asked`.
    """

    results: list[Answer | HomeostatError]
    observed: Tensor | None = None
    outputs: Outputs | None = None
    failures: dict[int, int] = field(default_factory=dict)
    champion_alone_failed: int = 0
    sample: Sequence[Row] = ()
    asked: Sequence[Asked] = ()
    told: Told | None = None

    def rows_of(self, version: int) -> int:
        """Rows that a version answered for callers who did not choose it."""
        if self.told is not None:
            return len(self.told.ids) if self.told.loaded.version == version else 0
        return sum(
            len(one.ids)
            for one in self.results
            if isinstance(one, Answer) and one.loaded.version == version and one.arm != PINNED
        )
