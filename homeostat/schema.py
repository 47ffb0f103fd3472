"""What a model's inputs are, in plain values that every room may know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Task = Literal["classification", "regression"]
Kind = Literal["float64", "float32", "int64", "int32", "bool", "str"]


@dataclass(frozen=True)
class Named:
    """A named value of each row, or of each answer, for callers that send and read tensors.

    Args:
        name: Of the tensor.
        kind: What it holds.
        width: None: one value a row. Else a row has so many, (N, width).
    """

    name: str
    kind: Kind
    width: int | None = None


@dataclass(frozen=True)
class Feature:
    """One column of what the monitors watch.

    Args:
        name: The column's name, shown to people.
        kind: `numeric`, or `categorical` with codes as values.
        categories: For a categorical feature the known values in code order: code i is
            `categories[i]`, code `len(categories)` any other value, and NaN a missing one.
    """

    name: str
    kind: Literal["numeric", "categorical"] = "numeric"
    categories: tuple[str, ...] = ()
