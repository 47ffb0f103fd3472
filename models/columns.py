"""One column of a table: what it holds, how it is told from data, and its values as numbers."""

from __future__ import annotations

import difflib
import math
from array import array
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from homeostat.errors import DataError, HomeostatError, InvalidRow
from models.configured import bad_config, is_texts
from models.torch_learner import class_name

MAX_CATEGORIES = 100_000
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Column:
    """A column.

    Args:
        name: As rows name it.
        kind: `numeric` or `categorical`.
        mean: Of a numeric column's training values.
        deviation: Of a numeric column's training values; 1 where they are all alike.
        categories: Of a categorical column, in the order of their codes.
    """

    name: str
    kind: Literal["numeric", "categorical"]
    mean: float = 0.0
    deviation: float = 1.0
    categories: tuple[str, ...] = ()

    @cached_property
    def codes(self) -> dict[str, int]:
        """The code of each category; any other value has the next one."""
        return {category: code for code, category in enumerate(self.categories)}

    def config(self) -> dict[str, Any]:
        """Plain JSON that `column_from_config` takes."""
        if self.kind == "categorical":
            return {"name": self.name, "categories": list(self.categories)}
        return {"name": self.name, "mean": self.mean, "deviation": self.deviation}


def column_from_config(config: object) -> Column:
    """The column that gave this configuration.

    Raises:
        ArtifactError: none could have.
    """
    if not isinstance(config, dict) or not isinstance(config.get("name"), str):
        raise bad_config("table", "a column has no name")
    name: str = config["name"]
    if set(config) == {"name", "categories"}:
        categories = config["categories"]
        if is_texts(categories) and len(set(categories)) == len(categories) <= MAX_CATEGORIES:
            return Column(name, "categorical", categories=tuple(categories))
    elif set(config) == {"name", "mean", "deviation"}:
        mean, deviation = config["mean"], config["deviation"]
        finite = all(isinstance(v, int | float) and math.isfinite(v) for v in (mean, deviation))
        if finite and deviation > 0:
            return Column(name, "numeric", float(mean), float(deviation))
    raise bad_config("table", f"its column '{name[:80]}' is none")


def column_from_values(
    name: str, values: Sequence[object], *, categorical: bool, max_categories: int
) -> Column:
    """Tell a column from its training values.

    It is numeric if every value that is there is a number, unless told otherwise. Of a
    categorical column the `max_categories` most frequent values are known.

    Raises:
        DataError: it holds no value at all, or something that is no plain value.
    """
    present = [value for value in values if value is not None]
    if not present:
        raise DataError(
            f"The column '{name}' holds no value in {len(values)} rows.",
            remedy="Leave it out, or name it in the option `ignore`.",
            column=name,
        )
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in present)
    try:
        if numeric and not categorical:
            numbers = encode_column(Column(name, "numeric"), present).astype(np.float64)
            deviation = float(numbers.std())
            return Column(name, "numeric", float(numbers.mean()), deviation or 1.0)
        counts = Counter(class_name(value) for value in present)
    except (ValueError, HomeostatError) as error:
        raise DataError(
            f"The column '{name}' cannot be learnt from: {error}",
            remedy="Mend the value, or name the column in the option `ignore`.",
            column=name,
        ) from error
    # Ties in frequency are cut by name, so that the same data gives the same column.
    ranked = sorted(counts, key=lambda value: (-counts[value], value))
    return Column(name, "categorical", categories=tuple(sorted(ranked[:max_categories])))


def encode_column(column: Column, values: Sequence[object]) -> NDArray[np.float32]:
    """Values as numbers (N,): a number as it is, a category as its code, NaN for None.

    Raises:
        InvalidRow: a value that the column cannot hold.
    """
    if column.kind == "categorical":
        return _codes(column, values)
    missing = np.array([value is None for value in values], dtype=bool)
    plain: list[Any] = [0.0 if value is None else value for value in values]
    try:
        # Numbers alone: numpy would make all values as wide as the longest text among them.
        numbers = np.asarray(array("d", plain))
    except (TypeError, OverflowError):
        numbers = np.array([_number(column, i, v) for i, v in enumerate(plain)], dtype=np.float64)
    if not (np.abs(numbers) <= _LARGEST).all():
        bad = int(np.argmin(np.abs(numbers) <= _LARGEST))
        raise _bad_value(column, bad, values[bad], "a finite number (null where it is missing)")
    encoded = numbers.astype(np.float32)
    encoded[missing] = np.nan
    return encoded


def as_object(
    index: int, row: object, names: Sequence[str], ignore: Collection[str] = ()
) -> Mapping[str, Any]:
    """A row as an object with exactly these columns; ignored ones may be there too.

    Raises:
        InvalidRow: a column is lacking or unknown, or the row is neither object nor list.
    """
    if isinstance(row, Mapping):
        if row.keys() == set(names):
            return row
        if lacking := [name for name in names if name not in row]:
            raise InvalidRow(
                f"Row {index} lacks the column '{lacking[0]}'.",
                remedy="Send every column, with null where the value is missing.",
                row=index,
                column=lacking[0],
            )
        known = {*names, *ignore}
        if unknown := [str(name) for name in row if name not in known]:
            near = difflib.get_close_matches(unknown[0], names, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise InvalidRow(
                f"Row {index} has the column '{unknown[0][:80]}', which the model has not.{hint}",
                remedy=f"The columns: {', '.join(names)}.",
                row=index,
                column=unknown[0][:80],
            )
        return row
    if isinstance(row, list | tuple) and len(row) == len(names):
        return dict(zip(names, row, strict=True))
    found = f"has {len(row)} values" if isinstance(row, list | tuple) else "is no object"
    raise InvalidRow(
        f"Row {index} {found}; the model has {len(names)} columns.",
        remedy=f"Send an object, or a list in this order: {', '.join(names)}.",
        row=index,
    )


def wrong_columns(unknown: Sequence[str], names: Sequence[str]) -> DataError:
    """The error of options that name columns which the data does not have."""
    return DataError(
        f"The data has no column '{unknown[0]}'; its columns are {', '.join(names)}.",
        remedy="Mend the names in the policy's `learner_config`.",
        columns=list(names),
    )


def _codes(column: Column, values: Sequence[object]) -> NDArray[np.float32]:
    codes, other = column.codes, len(column.categories)
    encoded = np.empty(len(values), dtype=np.float32)
    for index, value in enumerate(values):
        if value is None:
            encoded[index] = np.nan
            continue
        try:
            encoded[index] = codes.get(class_name(value), other)
        except ValueError:
            wanted = "text, a finite number or a truth value (null where it is missing)"
            raise _bad_value(column, index, value, wanted) from None
    return encoded


def _number(column: Column, index: int, value: object) -> float:
    # A truth value counts as 0 or 1 here as in a whole batch of them.
    if isinstance(value, int | float | np.number | np.bool_):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    raise _bad_value(column, index, value, "a number (null where it is missing)")


def _bad_value(column: Column, index: int, value: object, wanted: str) -> InvalidRow:
    text = repr(value)
    shown = text if len(text) <= 40 else f"{text[:40]}..."
    return InvalidRow(
        f"Row {index} has {shown} in the column '{column.name}'.",
        remedy=f"Send {wanted}.",
        row=index,
        column=column.name,
    )
