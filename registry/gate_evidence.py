"""What gates judge by: the two versions, the rows both were asked, what the probe measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from homeostat.errors import DataError
from homeostat.policy import GatePolicy
from homeostat.schema import Task

if TYPE_CHECKING:  # torch comes with it, and who only reads verdicts needs none
    from models.learner import Label, Row

Losses = NDArray[np.float64]


@dataclass(frozen=True)
class Contender:
    """One of the two versions that are compared.

    Args:
        digest: Of its artifact.
        losses: For each regime's number the (n,) losses in [0, 1] of its held-out rows.
        folder: Its `model/` on this disk, for gates that look into it; None where there is none.
    """

    digest: str
    losses: Mapping[int, Losses]
    folder: Path | None = None

    def __post_init__(self) -> None:
        """Freeze the losses: a gate must not change what the next one is given."""
        frozen = {number: np.array(each) for number, each in self.losses.items()}
        for each in frozen.values():
            each.setflags(write=False)
        object.__setattr__(self, "losses", MappingProxyType(frozen))


@dataclass(frozen=True)
class Measured:
    """What the serving code measured of a candidate (`python -m serving.probe`).

    Args:
        failure: Why it could not be loaded, or did not answer; empty: it did.
        rows: Golden rows that it was asked.
        latency_p50_ms: Of one row through the serving code, the median.
        latency_p99_ms: The same, 99 of 100 are quicker.
        throughput_rows_s: Rows a second, asked 64 at a time.
        memory_mb: Resident memory that the version adds to the process.
        size_bytes: Of its folder on disk.
    """

    failure: str = ""
    rows: int = 0
    latency_p50_ms: float = 0.0
    latency_p99_ms: float = 0.0
    throughput_rows_s: float = 0.0
    memory_mb: float = 0.0
    size_bytes: int = 0


@dataclass(frozen=True)
class Evidence:
    """All that gates may look at; frozen, and the same for every gate.

    Args:
        candidate: What is judged.
        champion: Its losses on the same rows; None for a model's first version.
        policy: The bounds.
        documents: Card and bill of materials by file name, as drafted. Without a default, so that
            nobody forgets them: None is for who compares losses and registers nothing.
        task: Of the model.
        regime: Which regime `rows` and `labels` are of: the one that the candidate learnt.
        rows: The held-out rows of that regime as JSON carries them, in the order of the losses.
        labels: Their truths.
        measured: By the probe; None where none was made.
    """

    candidate: Contender
    champion: Contender | None
    policy: GatePolicy
    documents: Mapping[str, str] | None
    task: Task = "classification"
    regime: int = 0
    rows: Sequence[Row] = ()
    labels: Sequence[Label] = ()
    measured: Measured | None = None

    @property
    def newest(self) -> int:
        """The newest regime: what the stream looks like now."""
        return max(self.candidate.losses)

    def check(self) -> None:
        """Refuse evidence that nobody can judge by.

        Raises:
            DataError: no rows, losses outside [0, 1], or the two were not judged on the same rows.
        """
        losses = self.candidate.losses
        if not losses or any(len(each) == 0 for each in losses.values()):
            raise DataError(
                "There are no held-out rows to judge the candidate by.",
                remedy="Give every regime held-out rows.",
            )
        for number, each in losses.items():
            self._check_regime(number, each)
        for name, given in (("rows", self.rows), ("labels", self.labels)):
            if given and len(given) != len(losses.get(self.regime, ())):
                raise DataError(
                    f"Of regime {self.regime} there are {len(given)} {name} and"
                    f" {len(losses.get(self.regime, ()))} losses.",
                    remedy="Give one loss for each row.",
                    regime=self.regime,
                )

    def _check_regime(self, number: int, losses: Losses) -> None:
        if not np.all((losses >= 0.0) & (losses <= 1.0)):
            raise DataError(
                f"Losses of regime {number} are not all in [0, 1].",
                remedy="See what the learner's `score` returns.",
            )
        if self.champion is None:
            return
        others = self.champion.losses.get(number, ())
        if len(others) != len(losses):
            raise DataError(
                f"Of regime {number} the candidate has {len(losses)} losses, the champion"
                f" {len(others)}.",
                remedy="Judge both on the same rows.",
                regime=number,
            )
