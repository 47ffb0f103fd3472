"""What a model's inputs are, in plain values that every room may know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Task = Literal["classification", "regression"]


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
