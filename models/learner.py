"""The learner contract: what a user brings so that a model can be trained, served and judged.

Shapes: N rows, D encoded columns, F watched features, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from homeostat.errors import LearnerError
from homeostat.schema import Feature, Named, Task
from models.checkpoint import Checkpoint
from models.plain import Plain

Row = Any  # one input as JSON carries it: a list of numbers, or an object of named values
Label = Any  # one truth as JSON carries it: a string, a number, a truth value
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Budget:
    """What one training may spend.

    Args:
        epochs: Passes over the new data, at most.
        seconds: Wall time, at most; training ends after the batch that crosses it.
        batch_size: Rows of one step.
        learning_rate: Of AdamW.
        steps: Steps of the optimiser, at most; None: as many as the rest allows. A training
            that its time cut short is repeated to the bit by its count of steps.
        rows: Rows read, new and replayed, each as often as it is read, at most; training ends
            after the batch that crosses it. None: as many as the rest allows.
        patience: Passes in a row without a new lowest loss on rows set apart, after which the
            training has settled and ends; None: it does not look (`models.settling`).
        replayed: Share of each step's rows that come from the memory, where there is one.
        averaging: Decay of the running mean of the weights, which the training ends as
            (`models.running_mean`); None: it ends as its last step left it.
        checkpoint: Where it is kept how far the training has come; None: nowhere.

    A learner with a training loop of its own may leave what is below `steps` unread.
    """

    epochs: int = 30
    seconds: float = 300.0
    batch_size: int = 32
    learning_rate: float = 1e-3
    steps: int | None = None
    rows: int | None = None
    patience: int | None = None
    replayed: float = 0.5
    averaging: float | None = None
    checkpoint: Checkpoint | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Examples:
    """Encoded rows with their truths.

    Args:
        x: (N, D) float32, as `Learner.encode` gives them.
        y: (N,) int64 class index or float32 value, as `Learner.targets` gives them.
        ids: Where each row came from: a prediction id, or empty for the first data set.
        regime: (N,) int64, the number of the regime of each row; empty: all of regime 0.
        weight: (N,) float32, how many rows of the stream each row stands for where it is one
            of a sample; empty: each row for itself.
    """

    x: Tensor
    y: Tensor
    ids: tuple[str, ...] = ()
    regime: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    weight: Tensor = field(default_factory=lambda: torch.zeros(0))

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class FitReport:
    """What a training did.

    Args:
        epochs: Passes over the new data that were begun.
        steps: Steps of the optimiser.
        seconds: Wall time.
        losses: The mean training loss of each epoch.
        stopped: Why it ended: `epochs`, `seconds`, `steps`, `rows` or `settled`.
        skipped: Rows left out because their truth is a class that the model does not have.
        rows_read: Rows read, new and replayed, each as often as it was read.
        watched: The mean loss on the rows set apart after each pass, where there were any.
        resumed_at: The step that it went on from, where an earlier process had been killed.
        cpu_before: Processor seconds that earlier processes had spent by then.
    """

    epochs: int
    steps: int
    seconds: float
    losses: tuple[float, ...]
    stopped: str
    skipped: int = 0
    rows_read: int = 0
    watched: tuple[float, ...] = ()
    resumed_at: int = 0
    cpu_before: float = 0.0


class Learner(ABC):
    """How to build, train, predict with and score one kind of model.

    A learner is configuration only: everything learnt is in the module that `build` makes.
    `config()` is JSON and `from_config(config())` makes an equal learner: this is how a
    version is rebuilt from its artifact.

    Attributes:
        format: Of its versions' artifacts; it picks what loads them.
    """

    format: ClassVar[str] = "torch"

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if "encode" in vars(cls) and "encode_array" not in vars(cls):
            # An inherited way past `encode` would go past this one too; so with `predict`.
            type.__setattr__(cls, "encode_array", Learner.encode_array)
        if "predict" in vars(cls) and "quick" not in vars(cls):
            type.__setattr__(cls, "quick", Learner.quick)

    @property
    @abstractmethod
    def task(self) -> Task:
        """What it predicts; a class attribute will do."""

    @property
    @abstractmethod
    def features(self) -> tuple[Feature, ...]:
        """The F watched features, in the order of `observe`'s columns."""

    @property
    def inputs(self) -> tuple[Named, ...]:
        """What a row is made of, for callers that send tensors.

        By default one value for each feature: the row is an object of them. One of a width and
        no other: the row is the list.
        """
        return tuple(
            Named(feature.name, "float64" if feature.kind == "numeric" else "str")
            for feature in self.features
        )

    @property
    def outputs(self) -> tuple[Named, ...]:
        """What `answers` says of each row, for callers that read tensors; a class as its name."""
        if self.task == "regression":
            return (Named("prediction", "float32"),)
        return Named("prediction", "str"), Named("confidence", "float32")

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Plain JSON that `from_config` takes."""

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """An equal learner.

        Raises:
            ArtifactError: the configuration is not one that `config` could have given.
        """

    @classmethod
    @abstractmethod
    def from_data(
        cls, rows: Sequence[Row], labels: Sequence[Label], options: Mapping[str, Any]
    ) -> Self:
        """A learner fitted to the shape of a data set: its columns, categories, scales, classes.

        Raises:
            DataError: the data cannot be learnt from; the message says why.
        """

    @abstractmethod
    def build(self, generator: torch.Generator) -> nn.Module:
        """A fresh module with weights drawn from `generator`."""

    @abstractmethod
    def encode(self, rows: Sequence[Row]) -> Tensor:
        """Rows as (N, D) float32.

        Raises:
            InvalidRow: with the index of the first bad row and what is wrong with it.
        """

    @property
    def row_size(self) -> int:
        """How many numbers a row is, where `encode_array` takes plain lists of them; else 0."""
        return 0

    def encode_array(self, values: NDArray[np.floating[Any]]) -> Tensor:
        """As `encode`, of rows that are lists of `row_size` numbers each, all in one array (N, D).

        It is what a gateway asks of a learner with `row_size`: no number becomes a Python object
        twice.

        Raises:
            InvalidRow: as `encode`.
        """
        return self.encode(values.tolist())

    @abstractmethod
    def targets(self, labels: Sequence[Label]) -> Tensor:
        """Truths as (N,) int64 class index (-1: a class never seen) or float32 value.

        Raises:
            InvalidLabel: a value that cannot be a truth of this task.
        """

    def truths(self, y: Tensor) -> list[Label]:
        """Labels that `targets` turns into `y`, for stored rows: by default the numbers."""
        labels: list[Label] = y.tolist()
        return labels

    def grown(
        self,
        labels: Sequence[Label],  # noqa: ARG002 - read by learners with classes
        least: int = 1,  # noqa: ARG002 - the same
    ) -> Self:
        """An equal learner that has new classes too, after the ones it has.

        Args:
            labels: Truths, those of known classes among them.
            least: Labels that name a new class, for it to be taken up.

        Returns:
            This very learner where there is nothing to take up: by default always.

        Raises:
            InvalidLabel: a value that cannot be a truth of this task.
        """
        return self

    def grow(
        self,
        model: nn.Module,  # noqa: ARG002 - read by learners that take up classes
        grown: Self,  # noqa: ARG002 - the same
        generator: torch.Generator,  # noqa: ARG002 - the same
    ) -> nn.Module:
        """A copy of `model` for `grown`, a learner that `grown` gave; what was learnt stays.

        Its answers to what `model` knows are as before, until it is trained. Whatever is random
        comes from `generator`.

        Raises:
            LearnerError: this model cannot be given more classes.
        """
        raise LearnerError(
            f"{type(self).__name__} has no way to give its model more classes.",
            remedy="Write its `grow`, as its `grown` takes up classes.",
        )

    def extends(self, other: Learner) -> bool:
        """Whether what was encoded for `other` can be read: rows, and truths as class indices.

        So it is for an equal learner, and for one that has classes after the other's.
        """
        return type(self) is type(other) and self.config() == other.config()

    @abstractmethod
    def fit(
        self,
        model: nn.Module,
        data: Examples,
        replay: Examples | None,
        budget: Budget,
        generator: torch.Generator,
    ) -> FitReport:
        """Train `model` in place on `data`, mixed with `replay` where there is one."""

    @abstractmethod
    def predict(self, model: nn.Module, batch: Tensor) -> NDArray[np.float32]:
        """Outputs (N, C) probabilities, or (N, 1) values for a regression; no gradient."""

    def quick(self, model: nn.Module) -> Plain | None:  # noqa: ARG002 - for those that have one
        """How at most `models.plain.FEW` encoded rows (n, D) are answered without torch.

        It gives what `predict` does of the module as it is now; None: there is no such way.
        """
        return None

    @abstractmethod
    def answers(self, outputs: NDArray[np.float32]) -> list[dict[str, Any]]:
        """Each output as JSON: `prediction`, and for a classification `confidence`."""

    @abstractmethod
    def score(self, outputs: NDArray[np.float32], labels: Sequence[Label]) -> Floats:
        """Loss of each row in [0, 1], shape (N,); the mean is 1 - accuracy for classes.

        Raises:
            InvalidLabel: as `targets`.
        """

    def measures(
        self,
        outputs: NDArray[np.float32],  # noqa: ARG002 - read by learners that have more to say
    ) -> dict[str, float]:
        """More figures of a version by its outputs on held-out rows, by name: by default none."""
        return {}

    def observe(self, batch: Tensor) -> Floats:
        """What the monitors watch of encoded rows, (N, F); NaN is a missing value."""
        return np.asarray(batch.numpy(), dtype=np.float64)

    def confidence(self, outputs: NDArray[np.float32]) -> Floats:
        """One figure of each output in the order of its certainty, (N,): the top probability."""
        return np.asarray(outputs.max(axis=1), dtype=np.float64)

    def predicted(self, outputs: NDArray[np.float32]) -> Floats:
        """One figure of each output for its drift, (N,): the class index, or the value."""
        best = outputs.argmax(axis=1) if self.task == "classification" else outputs[:, 0]
        return np.asarray(best, dtype=np.float64)
