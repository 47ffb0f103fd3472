"""Versions that somebody else logged: any MLflow model that `pyfunc` loads, as a learner of ours.

The learner is configuration only, as every learner: which columns the model takes and what its
answers are. The model itself never comes into this process: it runs in one of its own, and its
module here (`Apart`) holds its files as bytes and asks it.

Shapes: N rows, D columns, C classes. An encoded row holds float64: a number as it is, a text or
truth value as its code, NaN where a value is missing.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from homeostat.errors import InvalidLabel, LearnerError, Refused
from homeostat.schema import Feature, Named, Task
from models.columns import as_object
from models.configured import bad_config, is_classes
from models.learner import Budget, Examples, FitReport, Floats, Label, Row
from models.pyfunc_columns import (
    KIND,
    NUMBERS,
    Field,
    Values,
    decode,
    encode,
    fit_field,
    read_field,
    watched,
)
from models.table import guess_task, spread
from models.torch_learner import TorchLearner, find_classes

REFERENCE = "models.pyfunc:Pyfunc"
MAX_COLUMNS = 4096
MAX_CLASSES = 10_000
_FIELDS = {"task", "columns", "tensor", "classes", "scale"}


class Apart(nn.Module):
    """A model that runs elsewhere; `state_dict` is its files by path, uint8 (bytes,).

    `proof` is what it has to pass when it comes back, before it answers anybody: it raises
    ArtifactError where another model came back. `fault` then says so, and it answers no more.
    """

    def __init__(self, files: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.files = dict(files)
        self.proof: Callable[[Apart], None] | None = None
        self.fault = ""

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Tensor]:  # type: ignore[override]  # noqa: ANN401 - torch's
        """The files, as they are sealed into an artifact."""
        return dict(self.files)

    @abstractmethod
    def ask(self, columns: Mapping[str, Values], tensor: str) -> Values:
        """The model's answers to rows.

        Args:
            columns: Name to values, (N,) each.
            tensor: The dtype of the (N, D) array that the model takes; empty: a table.

        Returns:
            Numbers (N,) or (N, C), or a list of N plain values.

        Raises:
            LearnerError: it failed on these rows.
            Unavailable: its process is being started again.
        """


@dataclass(frozen=True)
class Pyfunc(TorchLearner):
    """A row is an object of the columns' values, or a list in their order; null is missing.

    Args:
        task: What it predicts.
        fields: The D columns.
        tensor: The dtype of the array that the model takes in place of a table, or empty.
        classes: Of a classification.
        scale: Of a regression: an error as large as this counts as wholly wrong.
    """

    format: ClassVar[str] = "pyfunc"

    task: Task = "classification"
    fields: tuple[Field, ...] = ()
    tensor: str = ""
    classes: tuple[Label, ...] = ()
    scale: float = 1.0

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """The D columns."""
        return tuple(
            Feature(field.name)
            if field.kind in NUMBERS
            else Feature(field.name, "categorical", watched(field))
            for field in self.fields
        )

    @cached_property
    def inputs(self) -> tuple[Named, ...]:
        """As `Learner.inputs`: the columns by their kinds, or the array as one tensor."""
        if self.tensor:
            return (Named("input", KIND[self.tensor], len(self.fields)),)
        return tuple(Named(field.name, KIND[field.kind]) for field in self.fields)

    def config(self) -> dict[str, Any]:
        """As `Learner.config`."""
        return {
            "task": self.task,
            "columns": [[field.name, field.kind, list(field.values)] for field in self.fields],
            "tensor": self.tensor,
            "classes": list(self.classes),
            "scale": self.scale,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """As `Learner.from_config`."""
        if set(config) != _FIELDS:
            raise bad_config("pyfunc", f"it has the fields {sorted(config)}")
        task, columns, classes = config["task"], config["columns"], config["classes"]
        scale, tensor = config["scale"], config["tensor"]
        if task not in ("classification", "regression"):
            raise bad_config("pyfunc", f"its task is {task!r}")
        if not isinstance(columns, list) or not 1 <= len(columns) <= MAX_COLUMNS:
            raise bad_config("pyfunc", "it has no list of columns")
        if not (is_classes(classes, MAX_CLASSES) if task == "classification" else classes == []):
            raise bad_config("pyfunc", f"its classes are {str(classes)[:80]}")
        if not isinstance(scale, int | float) or not 0 < scale < math.inf:
            raise bad_config("pyfunc", f"scale is {scale!r}")
        if tensor not in ("", *NUMBERS):
            raise bad_config("pyfunc", f"its tensor is {str(tensor)[:80]}")
        fields = tuple(read_field(column) for column in columns)
        if len({field.name for field in fields}) < len(fields):
            raise bad_config("pyfunc", "two columns have one name")
        return cls(task, fields, tensor, tuple(classes), float(scale))

    @classmethod
    def from_data(
        cls, rows: Sequence[Row], labels: Sequence[Label], options: Mapping[str, Any]
    ) -> Self:
        """As `Learner.from_data`, without training: the shape of a model that exists.

        Options: `kinds` (name to kind, for each column that the model takes), `tensor`,
        `classes` (as the model names them) and `task`.

        Raises:
            DataError: a column that the model takes is not in the data, or not of its kind.
        """
        kinds: Mapping[str, str] = options["kinds"]
        objects = [
            as_object(index, row, tuple(kinds), tuple(row)) for index, row in enumerate(rows)
        ]
        fields = tuple(
            fit_field(name, kind, [row[name] for row in objects]) for name, kind in kinds.items()
        )
        task: Task = options.get("task") or guess_task(labels)
        tensor = str(options.get("tensor", ""))
        if task == "regression":
            _, scale = spread(cls(task).targets(labels))
            return cls(task, fields, tensor, (), scale)
        classes = find_classes([*labels, *options.get("classes", ())])
        named = tuple(options.get("classes", ()))
        return cls(task, fields, tensor, named if len(named) == len(classes) else classes)

    def build(self, generator: torch.Generator) -> nn.Module:  # noqa: ARG002 - the contract's
        """There is nothing to build: the model was made elsewhere."""
        raise _not_trained()

    def fit(
        self,
        model: nn.Module,  # noqa: ARG002 - the contract's
        data: Examples,  # noqa: ARG002 - the contract's
        replay: Examples | None,  # noqa: ARG002 - the contract's
        budget: Budget,  # noqa: ARG002 - the contract's
        generator: torch.Generator,  # noqa: ARG002 - the contract's
    ) -> FitReport:
        """An adopted version is served and watched, never trained."""
        raise _not_trained()

    def encode(self, rows: Sequence[Row]) -> Tensor:
        """As `Learner.encode`, as float64: whole numbers are exact up to 2^53."""
        names = tuple(field.name for field in self.fields)
        objects = [as_object(index, row, names) for index, row in enumerate(rows)]
        batch = np.empty((len(rows), len(self.fields)), dtype=np.float64)
        for at, field in enumerate(self.fields):
            for index, row in enumerate(objects):
                batch[index, at] = encode(field, index, row[field.name])
        return torch.from_numpy(batch)

    def predict(self, model: nn.Module, batch: Tensor) -> NDArray[np.float32]:
        """As `Learner.predict`: of class names the outputs are 1 for the one named."""
        if not isinstance(model, Apart):
            raise LearnerError("An adopted version has no module of its own.")
        columns = {
            field.name: decode(field, batch[:, at].numpy()) for at, field in enumerate(self.fields)
        }
        return self._outputs(model.ask(columns, self.tensor), len(batch))

    def observe(self, batch: Tensor) -> Floats:
        """As `Learner.observe`; rare and new values are one."""
        observed = batch.numpy().copy()
        for at, feature in enumerate(self.features):
            if feature.categories:
                most = float(len(feature.categories))
                column = observed[:, at]
                column[column > most] = most
        return np.asarray(observed, dtype=np.float64)

    def _outputs(self, values: Values, rows: int) -> NDArray[np.float32]:
        try:
            given = np.asarray(values)
        except ValueError as error:  # lists of different lengths
            raise LearnerError(f"The model gave no values: {error}.") from error
        if given.ndim == 2 and given.shape[1] == 1:
            given = given[:, 0]
        if len(given) != rows:
            raise LearnerError(f"The model gave {len(given)} answers to {rows} rows.")
        if self.task == "regression":
            if given.ndim != 1 or given.dtype.kind not in "biuf":
                raise LearnerError(
                    f"The model gave {given.dtype} {given.shape}, not one number a row."
                )
            return given.astype(np.float32)[:, None]
        if given.ndim == 2 and given.dtype.kind == "f" and given.shape[1] == len(self.classes):
            return given.astype(np.float32)
        if given.ndim != 1:
            raise LearnerError(f"The model gave {given.shape} for {len(self.classes)} classes.")
        return self._one_hot(given.tolist())

    def _one_hot(self, names: Sequence[Label]) -> NDArray[np.float32]:
        try:
            places = self.targets(names).numpy()
        except InvalidLabel as error:
            raise LearnerError(f"The model answered with no class. {error.message}") from error
        if (places < 0).any():
            new = names[int(np.argmin(places))]
            raise LearnerError(
                f"The model answered {str(new)[:80]!r}, a class that it did not have.",
                remedy="Adopt it again with reference data of all its classes.",
            )
        outputs = np.zeros((len(places), len(self.classes)), dtype=np.float32)
        outputs[np.arange(len(places)), places] = 1.0
        return outputs


def _not_trained() -> Refused:
    return Refused(
        "An adopted version is served and watched, and cannot be trained: it is not ours.",
        remedy="Train a version with a learner: homeostat train MODEL.",
    )
