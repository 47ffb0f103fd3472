"""Tables: numeric and categorical columns, to predict a class or a number from.

Shapes: N rows, D columns, Q of them numeric and K categorical, C classes (or 1 value).
An encoded row holds raw numbers and category codes, NaN where a value is missing: that is what
the monitors watch. Scaling and embedding happen inside the module.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from homeostat.errors import DataError, InvalidRow
from homeostat.schema import Feature, Task
from models.columns import (
    Column,
    as_object,
    column_from_config,
    column_from_values,
    encode_column,
    wrong_columns,
)
from models.configured import (
    bad_config,
    bad_option,
    is_classes,
    is_size,
    is_texts,
    refuse_unknown,
    unlearnable,
)
from models.encoder import Encoder
from models.learner import Label, Row
from models.plain import Plain, Values, perceptron
from models.torch_learner import find_classes, initialise

MAX_WIDTH = 1024
MAX_COLUMNS = 4096
MAX_CLASSES = 10_000
CLAMP = 10.0  # standard deviations; what lies beyond says no more than "extreme"
VALUES_OF_A_REGRESSION = 20  # more distinct whole-number labels than these are a quantity
_OPTIONS = ("task", "columns", "categorical", "ignore", "hidden", "max_categories")
_FIELDS = {"task", "columns", "ignore", "classes", "center", "scale", "hidden"}


class TableNet(nn.Module):
    """Standardised numbers and embedded categories through two hidden layers.

    Args:
        columns: The D columns.
        outputs: C logits, or 1 value.
        hidden: Width of both hidden layers.
        center: Added to a value, in the label's unit.
        scale: A value's unit, in the label's unit.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, columns: Sequence[Column], outputs: int, hidden: int, center: float, scale: float
    ) -> None:
        super().__init__()
        numeric = [i for i, column in enumerate(columns) if column.kind == "numeric"]
        self._numeric = numeric
        self._categorical = [i for i in range(len(columns)) if i not in set(numeric)]
        self._center, self._scale = center, scale
        mean = torch.tensor([columns[i].mean for i in numeric])
        deviation = torch.tensor([columns[i].deviation for i in numeric])
        # The learner's configuration holds them, so the weights need not.
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)
        # Codes 0 to k-1 are the categories, k any other, k+1 missing.
        sizes = [len(columns[i].categories) + 2 for i in self._categorical]
        self.embeddings = nn.ModuleList(
            nn.Embedding(size, min(16, (size + 1) // 2), padding_idx=size - 1) for size in sizes
        )
        width = len(numeric) + sum(min(16, (size + 1) // 2) for size in sizes)
        self.layers = nn.Sequential(
            nn.Linear(width, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, outputs),
        )

    def forward(self, rows: Tensor) -> Tensor:
        """Logits (N, C) or values (N, 1) of rows (N, D)."""
        numbers = (rows[:, self._numeric] - self.mean) / self.deviation  # (N, Q)
        # The mean stands in for a missing number: after scaling that is 0.
        parts = [torch.nan_to_num(numbers, nan=0.0).clamp(-CLAMP, CLAMP)]
        for column, embedding in zip(self._categorical, self.embeddings, strict=True):
            assert isinstance(embedding, nn.Embedding)
            missing = torch.tensor(float(embedding.num_embeddings - 1))
            codes = torch.where(rows[:, column].isnan(), missing, rows[:, column])
            parts.append(embedding(codes.long()))  # (N, width of the embedding)
        outputs: Tensor = self.layers(torch.cat(parts, dim=1))
        return self._center + self._scale * outputs

    def plain(self) -> Plain | None:
        """As `models.plain.Plainly`."""
        layers = perceptron(self.layers)
        if layers is None:
            return None
        mean, deviation = self.mean.numpy(), self.deviation.numpy()
        kept = [part for part in self.embeddings if isinstance(part, nn.Embedding)]
        tables = [part.weight.detach().numpy() for part in kept]
        center, scale = np.float32(self._center), np.float32(self._scale)

        def forward(rows: Values) -> Values:
            numbers = (rows[:, self._numeric] - mean) / deviation
            parts = [np.clip(np.nan_to_num(numbers, nan=0.0), -CLAMP, CLAMP)]
            for column, table in zip(self._categorical, tables, strict=True):
                codes = rows[:, column]
                missing = np.isnan(codes)
                parts.append(table[np.where(missing, len(table) - 1, codes).astype(np.int64)])
            return center + scale * layers(np.concatenate(parts, axis=1))

        return forward


@dataclass(frozen=True)
class Table(Encoder):
    """A row is an object of the columns' values, or a list in their order; null is missing.

    Args:
        task: What it predicts.
        columns: The D columns with their scales and categories.
        ignore: Columns that a row may have and that are not looked at.
        classes: Of a classification.
        center: Of a regression, the median of the training labels.
        scale: Of a regression, the interquartile range of the training labels: an error as
            large as this counts as wholly wrong.
        hidden: Width of the hidden layers.
    """

    task: Task = "classification"
    columns: tuple[Column, ...] = ()
    ignore: tuple[str, ...] = ()
    classes: tuple[Label, ...] = ()
    center: float = 0.0
    scale: float = 1.0
    hidden: int = 64

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """The D columns."""
        return tuple(Feature(c.name, c.kind, c.categories) for c in self.columns)

    def config(self) -> dict[str, Any]:
        """As `Learner.config`."""
        return {
            "task": self.task,
            "columns": [column.config() for column in self.columns],
            "ignore": list(self.ignore),
            "classes": list(self.classes),
            "center": self.center,
            "scale": self.scale,
            "hidden": self.hidden,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """As `Learner.from_config`."""
        if set(config) != _FIELDS:
            raise bad_config("table", f"it has the fields {sorted(config)}")
        task, columns, classes = config["task"], config["columns"], config["classes"]
        if task not in ("classification", "regression"):
            raise bad_config("table", f"its task is {task!r}")
        if not isinstance(columns, list) or not 1 <= len(columns) <= MAX_COLUMNS:
            raise bad_config("table", "it has no list of columns")
        if not (is_classes(classes, MAX_CLASSES) if task == "classification" else classes == []):
            raise bad_config("table", f"its classes are {str(classes)[:80]}")
        if not is_size(config["hidden"], MAX_WIDTH) or not is_texts(config["ignore"]):
            raise bad_config("table", "hidden or ignore is wrong")
        center, scale = config["center"], config["scale"]
        if not all(isinstance(v, int | float) and math.isfinite(v) for v in (center, scale)):
            raise bad_config("table", f"center is {center!r} and scale is {scale!r}")
        if not scale > 0:
            raise bad_config("table", f"scale is {scale!r}")
        found = tuple(column_from_config(column) for column in columns)
        if len({column.name for column in found}) < len(found):
            raise bad_config("table", "two columns have one name")
        ignore = tuple(config["ignore"])
        return cls(task, found, ignore, tuple(classes), center, scale, config["hidden"])

    @classmethod
    def from_data(
        cls, rows: Sequence[Row], labels: Sequence[Label], options: Mapping[str, Any]
    ) -> Self:
        """As `Learner.from_data`.

        Options: `task` (without it numeric labels with fractions, or of more than 20 distinct
        values, make a regression), `columns` (names, for rows that are lists), `categorical`
        (numeric columns that are codes), `ignore` (columns not to look at), `hidden` (64) and
        `max_categories` (64; rarer ones are one category, "other").
        """
        _check_options(options)
        if not rows:
            raise DataError("The data has no row.", remedy="Give labelled rows.")
        names = _column_names(rows[0], options.get("columns"))
        ignore = tuple(options.get("ignore", ()))
        if unknown := sorted({*ignore, *options.get("categorical", ())} - set(names)):
            raise wrong_columns(unknown, names)
        try:
            objects = [as_object(index, row, names) for index, row in enumerate(rows)]
        except InvalidRow as error:
            raise unlearnable(error) from error
        columns = tuple(
            column_from_values(
                name,
                [row[name] for row in objects],
                categorical=name in options.get("categorical", ()),
                max_categories=options.get("max_categories", 64),
            )
            for name in names
            if name not in ignore
        )
        if not columns:
            raise DataError("Every column is ignored.", remedy="Ignore fewer columns.")
        task: Task = options.get("task") or guess_task(labels)
        hidden = options.get("hidden", 64)
        if task == "classification":
            return cls(task, columns, ignore, find_classes(labels), hidden=hidden)
        center, scale = spread(cls(task).targets(labels))
        return cls(task, columns, ignore, (), center, scale, hidden)

    def build(self, generator: torch.Generator) -> nn.Module:
        """As `Learner.build`."""
        outputs = len(self.classes) if self.task == "classification" else 1
        scale = 1.0 if self.task == "classification" else self.scale
        net = TableNet(self.columns, outputs, self.hidden, self.center, scale)
        return initialise(net, generator)

    def encode(self, rows: Sequence[Row]) -> Tensor:
        """As `Learner.encode`, column by column; NaN is a missing value, so null is its sign.

        Numbers are kept as float32: whole numbers beyond 16,777,216 lose their last digits.
        """
        names, ignore = self._names, self.ignore
        objects = [as_object(index, row, names, ignore) for index, row in enumerate(rows)]
        batch = np.empty((len(rows), len(self.columns)), dtype=np.float32)
        for at, column in enumerate(self.columns):
            batch[:, at] = encode_column(column, [row[column.name] for row in objects])
        return torch.from_numpy(batch)

    @cached_property
    def represented(self) -> int:
        """As `Encoder.represented`."""
        sizes = (len(c.categories) + 2 if c.kind == "categorical" else 1 for c in self.columns)
        return sum(sizes)

    def represent(self, batch: Tensor) -> Tensor:
        """As `Encoder.represent`: standardised numbers, and a column for each category.

        As in the net the mean stands in for a missing number; a missing category is one.
        """
        parts = []
        for at, column in enumerate(self.columns):
            if column.kind == "categorical":
                missing = float(len(column.categories) + 1)
                codes = torch.nan_to_num(batch[:, at], nan=missing).long()
                parts.append(functional.one_hot(codes, len(column.categories) + 2).float())
            else:
                number = (batch[:, at : at + 1] - column.mean) / column.deviation
                parts.append(torch.nan_to_num(number, nan=0.0).clamp(-CLAMP, CLAMP))
        return torch.cat(parts, dim=1)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


def _column_names(first: Row, given: Sequence[str] | None) -> tuple[str, ...]:
    if isinstance(first, Mapping):
        return tuple(given) if given else tuple(str(name) for name in first)
    if not isinstance(first, list | tuple):
        raise DataError(
            f"Row 0 is a {type(first).__name__}, neither an object nor a list.",
            remedy="Give each row as an object of its columns' values.",
        )
    names = tuple(given) if given else tuple(f"column_{at}" for at in range(len(first)))
    if len(names) != len(first):
        raise DataError(
            f"Row 0 has {len(first)} values and there are {len(names)} names of columns.",
            remedy="Mend the option `columns`.",
        )
    return names


def _check_options(options: Mapping[str, Any]) -> None:
    refuse_unknown(options, _OPTIONS, "table")
    for name, value in options.items():
        if name == "task" and value not in ("classification", "regression"):
            raise bad_option("table", name, value, "'classification' or 'regression'")
        if name in ("hidden", "max_categories") and not is_size(value, MAX_WIDTH):
            raise bad_option("table", name, value, f"a whole number from 1 to {MAX_WIDTH}")
        if name in ("columns", "categorical", "ignore") and not is_texts(value):
            raise bad_option("table", name, value, "a list of names of columns")


def guess_task(labels: Sequence[Label]) -> Task:
    """What labels are of: numbers with fractions, or of many values, make a regression."""
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in labels)
    if not numeric:
        return "classification"
    fractions = any(isinstance(v, float) and not v.is_integer() for v in labels)
    many = len(set(labels)) > VALUES_OF_A_REGRESSION
    return "regression" if fractions or many else "classification"


def spread(values: Tensor) -> tuple[float, float]:
    """The median and the interquartile range; where that is 0, the standard deviation."""
    known = values.double().numpy()
    low, center, high = (float(v) for v in np.quantile(known, (0.25, 0.5, 0.75)))
    scale = high - low or float(known.std())
    if not scale > 0:
        raise DataError(
            f"All labels are {center:g}; there is nothing to learn.",
            remedy="Choose the right label column.",
        )
    return center, scale
