"""Versions of a learner that counts what it is asked, and batches of what they answer."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from homeostat.errors import InvalidRow
from homeostat.schema import Feature, Task
from models.learner import Budget, Examples, FitReport, Floats, Label, Learner, Row
from monitoring.profile import Profile
from registry.log import PredictionRecord, unpacked
from serving.batching import Batcher, Reply
from serving.entries import Entry, parse_request, read_entry
from serving.fleet import Fleet, Split
from serving.metrics import Metrics
from serving.runtime import Loaded
from serving.spool import Spool

Maker = Callable[..., Loaded]
Batched = tuple[list[Any], list[Entry], list[PredictionRecord]]
Batch = Callable[[Split, Sequence[bytes]], Batched]
NOON = datetime(2026, 11, 22, 12, 0, 0, 1, tzinfo=UTC)


class Double(Learner):
    """Answers a number with (it, 1 - it) plus the version's shift; 13 breaks it, -1 gives NaN."""

    task: Task = "classification"

    def __init__(self, shift: float = 0.0, breaks: bool = True) -> None:
        self.shift, self.breaks = shift, breaks
        self.encoded = 0

    @property
    def features(self) -> tuple[Feature, ...]:
        return (Feature("x"),)

    def config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        return cls(**config)

    @classmethod
    def from_data(
        cls, rows: Sequence[Row], labels: Sequence[Label], options: Mapping[str, Any]
    ) -> Self:
        del rows, labels, options
        return cls()

    def build(self, generator: torch.Generator) -> nn.Module:
        del generator
        return nn.Identity()

    def encode(self, rows: Sequence[Row]) -> Tensor:
        self.encoded += 1
        for index, row in enumerate(rows):
            if not isinstance(row, int | float):
                raise InvalidRow(f"Row {index} is no number.", row=index)
            if row == 99:
                raise ZeroDivisionError("encode")
        return torch.tensor(rows, dtype=torch.float32)[:, None]

    def targets(self, labels: Sequence[Label]) -> Tensor:
        return torch.tensor(labels)

    def fit(
        self,
        model: nn.Module,
        data: Examples,
        replay: Examples | None,
        budget: Budget,
        generator: torch.Generator,
    ) -> FitReport:
        raise NotImplementedError

    def predict(self, model: nn.Module, batch: Tensor) -> NDArray[np.float32]:
        del model
        if self.breaks and bool((batch == 13).any()):
            raise RuntimeError("thirteen")
        out = torch.cat([batch + self.shift, 1 - batch], dim=1)
        if self.breaks:
            out[batch[:, 0] == -1] = torch.nan
        return out.numpy()

    def answers(self, outputs: NDArray[np.float32]) -> list[dict[str, Any]]:
        return [{"prediction": round(float(one[0]), 3)} for one in outputs]

    def score(self, outputs: NDArray[np.float32], labels: Sequence[Label]) -> Floats:
        assert len(outputs) == len(labels)
        return np.zeros(len(outputs))


class Numbers(Double):
    """The same, of rows that are plain lists of two numbers; 50 is refused by either way."""

    @property
    def row_size(self) -> int:
        return 2

    def encode(self, rows: Sequence[Row]) -> Tensor:
        for index, row in enumerate(rows):
            if not isinstance(row, list) or len(row) != 2 or row[0] == 50:
                raise InvalidRow(f"Row {index} is not two numbers.", row=index)
        return torch.tensor(rows, dtype=torch.float32)[:, :1]

    def encode_array(self, values: NDArray[np.floating[Any]]) -> Tensor:
        self.encoded += 1
        if (values[:, 0] == 50).any():
            raise InvalidRow("Row 0 is not two numbers.", row=0)
        return torch.from_numpy(values[:, :1].astype(np.float32))


PROFILE = Profile.from_reference(
    (Feature("x"),), "classification", np.zeros((4, 1)), np.zeros(4), np.ones(4), np.zeros(4)
)


@pytest.fixture(scope="session")
def loaded() -> Maker:
    """Makes a version of a `Double`."""

    def make(version: int, *, breaks: bool = True, encoding: str = "same") -> Loaded:
        learner = Double(shift=version * 100, breaks=breaks)
        return Loaded("m", version, f"d{version}", learner, nn.Identity(), PROFILE, encoding)

    return make


@pytest.fixture(scope="session")
def numbers() -> Maker:
    """Makes a version of `Numbers`."""

    def make(version: int, *, breaks: bool = True) -> Loaded:
        learner = Numbers(shift=version * 100, breaks=breaks)
        return Loaded("m", version, f"d{version}", learner, nn.Identity(), PROFILE, "same")

    return make


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    """The answers of one batch, its entries, and what the log makes of them, in order of ids."""

    def run(split: Split, bodies: Sequence[bytes]) -> Batched:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        answers, spool = asyncio.run(asked_of(split, bodies, folder))
        entries: list[Entry] = []
        spool.drain(lambda payloads: entries.extend(map(read_entry, payloads)))
        spool.close()
        records = [one for entry in entries for one in unpacked(entry.who, entry.answered)]
        return answers, entries, records

    return run


async def asked_of(split: Split, bodies: Sequence[bytes], folder: Path) -> tuple[list[Any], Spool]:
    """The answers of one batch as callers get them, errors by their type, and its spool."""
    fleet = Fleet(("m",))
    fleet.swap(split)
    spool = Spool(folder)
    batcher = Batcher(fleet, spool, Metrics(), lambda _split, _done: None, lambda: NOON)
    requests = [parse_request(body, 10, fleet.columns("m")) for body in bodies]
    replies = await asyncio.gather(
        *(batcher.submit("m", request) for request in requests), return_exceptions=True
    )
    return [
        msgspec.json.decode(one.body)["predictions"] if isinstance(one, Reply) else type(one)
        for one in replies
    ], spool
