"""The usual parts of a learner whose model is a torch module.

A subclass gives `build`, `encode`, `features`, `config`, `from_config`, `from_data`, and
`classes` or `scale`. Its module takes (N, D) float32 and gives raw outputs: logits (N, C) for a
classification, values (N, 1) in the label's unit for a regression.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from homeostat.errors import (
    ArtifactError,
    DataError,
    HomeostatError,
    InvalidLabel,
    LearnerError,
)
from homeostat.schema import Kind, Named
from models.growing import new_classes, widen
from models.learner import Budget, Examples, FitReport, Floats, Label, Learner
from models.objectives import Ground, Recipe, usual
from models.plain import Plain, Plainly, softmax
from models.settling import part
from models.training import prior_shift, train

TEMPERATURE = 2.0  # softens both sides of the distillation (Hinton et al. 2015, section 2)
_CHUNK = 1024  # rows of one forward pass
UNSEEN = "(unseen)"  # stands for a class that was not in the training data

P = ParamSpec("P")
T = TypeVar("T")


def guarded(call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a learner's method: `guarded(learner.encode, rows)`.

    A learner is its user's code and may fail with anything.

    Raises:
        HomeostatError: as the method raised it.
        LearnerError: it raised anything else, which is kept as the cause.
    """
    try:
        return call(*args, **kwargs)
    except HomeostatError:
        raise
    except Exception as error:
        name = getattr(call, "__qualname__", repr(call))
        raise LearnerError(
            f"{name} failed: {type(error).__name__}: {error}.",
            remedy="Mend the learner's code; the cause is in the log.",
            method=name,
        ) from error


def initialise(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """Draw all weights anew from `generator`; torch's global generator decides nothing.

    | parameter | distribution |
    |---|---|
    | weight and bias of linear and convolutional layers | uniform(-1, 1) / sqrt(fan in) |
    | embeddings | normal(0, 0.1), the padding row 0 |
    | weight, bias of normalisation layers | 1, 0 |

    Raises:
        LearnerError: a layer of another kind owns parameters, which would stay as they are.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            bound = 1.0 / math.sqrt(layer.weight[0].numel())
            for parameter in layer.parameters(recurse=False):
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
        elif isinstance(layer, nn.Embedding):
            nn.init.normal_(layer.weight, 0.0, 0.1, generator=generator)
            if layer.padding_idx is not None:
                with torch.no_grad():
                    layer.weight[layer.padding_idx].zero_()
        elif isinstance(layer, nn.LayerNorm | nn.GroupNorm | nn.BatchNorm1d | nn.BatchNorm2d):
            layer.reset_parameters()
        elif any(True for _ in layer.parameters(recurse=False)):
            raise LearnerError(
                f"initialise does not know {type(layer).__name__} ('{name}').",
                remedy="Draw its weights from the generator in build.",
            )
    return model


def class_name(value: object) -> str:
    """One name for a plain value, however it was read: 3, 3.0 and "3" are one class.

    Raises:
        ValueError: it is neither text nor a finite number nor a truth value.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, numbers.Real) and math.isfinite(value):
        number = float(value)
        return str(int(number)) if number.is_integer() else repr(number)
    raise ValueError(f"{value!r} is neither text, a finite number nor a truth value")


def find_classes(labels: Sequence[Label]) -> tuple[Label, ...]:
    """The distinct labels in order: numbers by size, then text.

    Raises:
        InvalidLabel: a label that names no class.
        DataError: fewer than two classes.
    """
    found = {_name(index, label): _plain(label) for index, label in enumerate(labels)}
    if len(found) < 2:
        there = f"only the class {next(iter(found.values()))!r}" if found else "no label"
        raise DataError(
            f"The data has {there}; a classification needs two classes.",
            remedy="Give rows of at least two classes, or choose the right label column.",
        )
    return tuple(sorted(found.values(), key=lambda value: (isinstance(value, str), value)))


class TorchLearner(Learner):
    """Training, prediction and scoring for a module of logits or values.

    Attributes:
        classes: The C classes of a classification, in the order of the outputs; the truth of a
            row is matched by `class_name`.
        scale: For a regression the absolute error, in the label's unit, that counts as wholly
            wrong: the loss of a row is min(|output - truth| / scale, 1).
    """

    @property
    def classes(self) -> tuple[Label, ...]:
        """The classes in the order of the outputs; empty for a regression."""
        return ()

    @property
    def scale(self) -> float:
        """The absolute error that counts as wholly wrong."""
        return 1.0

    @functools.cached_property
    def outputs(self) -> tuple[Named, ...]:
        """As `Learner.outputs`; classes that are whole numbers or truth values stay such."""
        prediction, *others = super().outputs
        kinds = {type(label) for label in self.classes}
        if kinds in ({int}, {bool}):
            kind: Kind = "int64" if kinds == {int} else "bool"
            prediction = dataclasses.replace(prediction, kind=kind)
        return prediction, *others

    @functools.cached_property
    def _index(self) -> dict[str, int]:
        return {class_name(label): index for index, label in enumerate(self.classes)}

    def targets(self, labels: Sequence[Label]) -> Tensor:
        """As `Learner.targets`."""
        if self.task == "classification":
            index = self._index
            names = (_name(row, label) for row, label in enumerate(labels))
            return torch.tensor([index.get(name, -1) for name in names], dtype=torch.int64)
        values = [_value(row, label) for row, label in enumerate(labels)]
        return torch.tensor(values, dtype=torch.float32)

    def truths(self, y: Tensor) -> list[Label]:
        """As `Learner.truths`; -1 becomes a label that is no class."""
        if self.task == "classification":
            return [self.classes[index] if index >= 0 else UNSEEN for index in y.tolist()]
        return super().truths(y)

    def grown(self, labels: Sequence[Label], least: int = 1) -> Self:
        """As `Learner.grown`, for a learner whose `config` lists its `classes`.

        A class that the learner's own limits refuse is not taken up.
        """
        if self.task == "regression" or "classes" not in (config := self.config()):
            return self
        known = dict(zip(self._index, self.classes, strict=True))
        named = [(_name(row, label), _plain(label)) for row, label in enumerate(labels)]
        if not (new := new_classes(known, named, least)):
            return self
        try:
            return self.from_config({**config, "classes": [*self.classes, *new]})
        except ArtifactError:
            return self

    def grow(self, model: nn.Module, grown: Self, generator: torch.Generator) -> nn.Module:
        """As `Learner.grow`, for a module whose last layer has a row for each class."""
        return widen(model, grown.build(generator), len(self.classes), len(grown.classes))

    def extends(self, other: Learner) -> bool:
        """As `Learner.extends`."""
        if not isinstance(other, TorchLearner) or type(self) is not type(other):
            return False
        mine, theirs = dict(self.config()), dict(other.config())
        if "classes" in mine and self.classes[: len(other.classes)] == other.classes:
            mine["classes"] = theirs.get("classes")
        return mine == theirs

    def fit(
        self,
        model: nn.Module,
        data: Examples,
        replay: Examples | None,
        budget: Budget,
        generator: torch.Generator,
    ) -> FitReport:
        """As `Learner.fit`; rows of classes that the model does not have are left out.

        Raises:
            DataError: no row is left.
            LearnerError: the training diverged.
        """
        return self.fit_by(usual, model, data, replay, budget, generator)

    def fit_by(
        self,
        recipe: Recipe,
        model: nn.Module,
        data: Examples,
        replay: Examples | None,
        budget: Budget,
        generator: torch.Generator,
    ) -> FitReport:
        """As `fit`, with what each step lowers made by `recipe` before the first one."""
        known = self._known(data)
        if not len(known):
            raise DataError(
                f"None of the {len(data)} rows has a truth of a class that the model has.",
                remedy=f"Its classes: {', '.join(map(str, self.classes))}.",
            )
        old = self._known(replay) if replay is not None else None
        share = budget.replayed
        parted = part(known, budget.patience, generator)
        taught, apart = parted.learnt, parted.apart
        ground = Ground(
            model,
            taught,
            old,
            loss=self._loss(taught, old, share),
            plain=self._loss(taught, None, share),
            distil=self._distil,
            scale=self.scale,
            generator=generator,
        )
        report = train(
            model,
            taught,
            old,
            budget,
            generator,
            objective=recipe(ground),
            watch=functools.partial(self.watch, rows=apart) if apart is not None else None,
        )
        return dataclasses.replace(report, skipped=len(data) - len(known))

    def watch(self, model: nn.Module, rows: Examples) -> float:
        """The mean loss of rows that were set apart, in [0, 1], for when a training has settled.

        For classes it is that of an answer drawn by its chance, 1 - p(truth): of few rows the
        count of wrong ones stands still by chance while this one still falls.
        """
        outputs = np.concatenate([self.predict(model, x) for x in torch.split(rows.x, _CHUNK)])
        if self.task == "classification":
            return 1.0 - float(outputs[np.arange(len(rows)), rows.y.numpy()].mean(dtype=np.float64))
        return float(self.score(outputs, self.truths(rows.y)).mean())

    def predict(self, model: nn.Module, batch: Tensor) -> NDArray[np.float32]:
        """As `Learner.predict`."""
        if model.training:
            model.eval()
        with torch.inference_mode():
            outputs: Tensor = model(batch)
            if self.task == "classification":
                outputs = torch.softmax(outputs, dim=1)
        return outputs.numpy()

    def quick(self, model: nn.Module) -> Plain | None:
        """As `Learner.quick`, where the module knows itself plainly."""
        forward = model.plain() if isinstance(model, Plainly) else None
        if forward is None or self.task != "classification":
            return forward
        return lambda rows: softmax(forward(rows))

    def answers(self, outputs: NDArray[np.float32]) -> list[dict[str, Any]]:
        """As `Learner.answers`."""
        if self.task == "regression":
            return [{"prediction": value} for value in outputs[:, 0].tolist()]
        best, top = outputs.argmax(axis=1).tolist(), outputs.max(axis=1).tolist()
        return [
            {"prediction": self.classes[index], "confidence": confidence}
            for index, confidence in zip(best, top, strict=True)
        ]

    def score(self, outputs: NDArray[np.float32], labels: Sequence[Label]) -> Floats:
        """0/1 error, 1 for a class never seen; for a regression min(|error| / scale, 1)."""
        truth = self.targets(labels).numpy()
        if self.task == "classification":
            return np.asarray(outputs.argmax(axis=1) != truth, dtype=np.float64)
        error = np.abs(outputs[:, 0].astype(np.float64) - truth) / self.scale
        return np.asarray(np.minimum(error, 1.0), dtype=np.float64)

    def _known(self, data: Examples) -> Examples:
        if self.task == "regression" or not bool((data.y < 0).any()):
            return data
        keep = data.y >= 0
        weight = data.weight[keep] if len(data.weight) else data.weight
        # Which row came from where is of no use to a training.
        return Examples(data.x[keep], data.y[keep], weight=weight)

    def _loss(
        self, data: Examples, replay: Examples | None, replayed: float = 0.5
    ) -> Callable[[Tensor, Tensor], Tensor]:
        if self.task == "regression":
            # Quadratic near the truth, linear far from it: one wild label cannot rule a step.
            return lambda out, y: functional.smooth_l1_loss(out[:, 0] / self.scale, y / self.scale)
        shift = prior_shift(data, replay, len(self.classes), replayed)
        return lambda out, y: functional.cross_entropy(out + shift, y)

    def _distil(self, outputs: Tensor, before: Tensor) -> Tensor:
        if self.task == "regression":
            return functional.mse_loss(outputs / self.scale, before / self.scale)
        new = functional.log_softmax(outputs / TEMPERATURE, dim=1)
        old = functional.log_softmax(before / TEMPERATURE, dim=1)
        divergence = functional.kl_div(new, old, reduction="batchmean", log_target=True)
        return TEMPERATURE**2 * divergence


def _name(row: int, label: Label) -> str:
    try:
        return class_name(label)
    except ValueError as error:
        raise InvalidLabel(
            f"The label of row {row} names no class: {error}.",
            remedy="Send the class as text, a number or a truth value.",
            row=row,
        ) from None


def _plain(label: Label) -> Label:
    """The label as JSON carries it, and 3.0 as 3."""
    value = label.item() if isinstance(label, np.generic) else label
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _value(row: int, label: Label) -> float:
    number = isinstance(label, numbers.Real) and not isinstance(label, bool | np.bool_)
    try:
        value = float(label) if number else math.nan
    except OverflowError:
        value = math.inf
    if not abs(value) <= torch.finfo(torch.float32).max:
        raise InvalidLabel(
            f"The label of row {row} is {label!r}, not a finite number.",
            remedy="Send the value as a number.",
            row=row,
        )
    return value
