"""What a version's lineage says: parent, data, code, environment, parameters, memory, cost.

Plain JSON of schema 1, written once when the candidate is made, kept as `lineage.json` of its run
and in the lifecycle database. Digests are SHA-256 in hex, times are UTC in ISO 8601.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from homeostat.errors import ArtifactError
from registry.numbers import Make

SCHEMA = 1


@dataclass(frozen=True)
class Ancestor:
    """Another version of the same model: its number in MLflow, the digest of its files."""

    version: int
    digest: str


@dataclass(frozen=True)
class Parent(Ancestor):
    """The version that this one was made from, and how."""

    edge: str


@dataclass(frozen=True)
class DataFacts:
    """What was learnt.

    Args:
        source: `log`, `builtin:NAME`, or the path of a file.
        digest: Of rows and labels in their order.
        rows: Of the data set.
        trained_on: Rows of it that were learnt from.
        held_out: Rows of it that were kept to judge by.
        begins: When the oldest row was predicted; None for a data set that is no log.
        ends: When the newest row was predicted.
        regime: The regime that the rows are of.
        regimes: All regimes whose held-out rows it was judged on.
    """

    source: str
    digest: str
    rows: int
    trained_on: int
    held_out: int
    begins: str | None
    ends: str | None
    regime: int
    regimes: tuple[int, ...]


@dataclass(frozen=True)
class CodeFacts:
    """Which code made it.

    Args:
        package: Homeostat's version.
        revision: Of the git repository that the learner's source is in; None without one.
        modified: Whether that repository had changes that were not committed.
        source: Of all Python files of the training code and of the learner's package.
    """

    package: str
    revision: str | None
    modified: bool
    source: str


@dataclass(frozen=True)
class EnvironmentFacts:
    """What it was made on.

    Args:
        python: Its version.
        platform: Operating system, machine and C library.
        vector: The instruction set that torch used: another one sums in another order.
        threads: Of torch, for the same reason.
        packages: Versions of the libraries that decide numbers.
        digest: Of names and versions of everything installed.
    """

    python: str
    platform: str
    vector: str
    threads: int
    packages: Mapping[str, str]
    digest: str


@dataclass(frozen=True)
class MemoryFacts:
    """The replay memory and the frozen rows that go with the version: its `replay/`."""

    digest: str
    rows: int


@dataclass(frozen=True)
class Cost:
    """What the training took.

    Args:
        seconds: Wall time.
        cpu_seconds: Processor time.
        rows: Of one pass.
        epochs: Passes that were begun.
        steps: Of the optimiser.
        stopped: `epochs`, or what ended it before: `seconds`, `rows`, `settled`.
        rows_read: New and replayed, each as often as it was read; 0: it was not counted.
        full_steps: What a full retrain would take, by the pipeline's passes over all rows ever
            learnt; None where this was one.
        hourly: What an hour of training costs, in the owner's money; None: not said.
    """

    seconds: float
    cpu_seconds: float
    rows: int
    epochs: int
    steps: int
    stopped: str
    rows_read: int = 0
    full_steps: int | None = None
    hourly: float | None = None

    @property
    def share(self) -> float | None:
        """Of a full retrain's cost, step for step; None where there is nothing to compare."""
        return self.steps / self.full_steps if self.full_steps else None

    @property
    def full_cpu_seconds(self) -> float | None:
        """What a full retrain is estimated to take, by what a step took here."""
        return self.cpu_seconds / self.share if self.share else None

    @property
    def money(self) -> float | None:
        """What it cost, by the rate of an hour."""
        return None if self.hourly is None else self.hourly * self.seconds / 3600.0


@dataclass(frozen=True)
class FileFacts:
    """One file of the artifact."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Lineage:
    """Where one version comes from.

    Args:
        model: The registered model's name.
        number: As it was given when the version was made; an edit since is in the database.
        digest: Of its files, `model/`.
        flow: `pipeline` or `retrain`.
        made_at: When.
        made_by: In a sentence, for people.
        parent: What its weights go on from; None for one that was trained anew.
        champion: Whose memory it took over and beside which it was judged; None for a first.
        data: What it learnt.
        code: What made it.
        environment: On what.
        parameters: The part of the policy that decides the training, as `Policy` takes it.
        seed: Where everything random began.
        memory: What it remembers.
        cost: What it took.
        make: What its number is decided by.
        weights: Count of its parameters.
        files: Of its `model/`, by name.
    """

    model: str
    number: str
    digest: str
    flow: str
    made_at: str
    made_by: str
    parent: Parent | None
    champion: Ancestor | None
    data: DataFacts
    code: CodeFacts
    environment: EnvironmentFacts
    parameters: dict[str, Any]
    seed: int
    memory: MemoryFacts
    cost: Cost
    make: Make
    weights: int
    files: dict[str, FileFacts]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, as it is stored and shown."""
        return {"schema": SCHEMA, **msgspec.to_builtins(self)}

    @classmethod
    def from_json(cls, value: object) -> Lineage:
        """What `to_json` gave.

        Raises:
            ArtifactError: it is something else.
        """
        schema = value.get("schema") if isinstance(value, dict) else None
        try:
            if schema != SCHEMA:
                raise msgspec.ValidationError(f"its schema is {schema!r}, not {SCHEMA}")
            return msgspec.convert(value, cls)
        except msgspec.ValidationError as error:
            raise ArtifactError(
                f"A lineage is not as it was written: {error}.",
                remedy="Use the Homeostat that wrote it, or the copy in MLflow: lineage.json.",
            ) from error
