"""The columns of a model that somebody else logged: their kinds, and their values as numbers.

Shapes: N rows. A number is encoded as it is, a text or truth value as its code, a missing value as
NaN.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homeostat.errors import DataError, InvalidRow, LearnerError
from homeostat.schema import Kind
from models.configured import bad_config, is_texts

NUMBERS: tuple[Kind, ...] = ("float64", "float32", "int64", "int32")
KINDS: tuple[Kind, ...] = (*NUMBERS, "bool", "str")
KIND: dict[str, Kind] = {kind: kind for kind in KINDS}
MAX_VALUES = 100_000  # distinct values of a column that a configuration holds
MAX_TEXT = 10_000  # characters of one value
WATCHED = 64  # categories that the monitors tell apart; the rest is one, "other"

Values = NDArray[Any] | list[Any]  # of one column, (N,)


@dataclass(frozen=True)
class Field:
    """A column as the model takes it.

    Args:
        name: As rows name it.
        kind: One of KINDS.
        values: Of a text column, those of the reference data, the most frequent first: a value
            is encoded by its place here.
    """

    name: str
    kind: str
    values: tuple[str, ...] = ()

    @cached_property
    def codes(self) -> dict[str, int]:
        """The place of each known value."""
        return {value: code for code, value in enumerate(self.values)}


class Novel:
    """Texts that no configuration holds, by number, so that a row of numbers can carry them.

    Of one process: the numbers are never written down. Only the newest are kept; a batch is
    answered long before its own are gone.
    """

    def __init__(self, most: int = 262_144) -> None:
        self._most = most
        self._numbers: dict[str, int] = {}
        self._texts: OrderedDict[int, str] = OrderedDict()
        self._next = 0
        self._lock = threading.Lock()

    def number(self, text: str) -> int:
        """The number of a text."""
        with self._lock:
            known = self._numbers.get(text)
            if known is not None:
                self._texts.move_to_end(known)
                return known
            number, self._next = self._next, self._next + 1
            self._numbers[text], self._texts[number] = number, text
            if len(self._texts) > self._most:
                _, oldest = self._texts.popitem(last=False)
                del self._numbers[oldest]
            return number

    def text(self, number: int) -> str:
        """The text of a number.

        Raises:
            LearnerError: it is long gone.
        """
        with self._lock:
            found = self._texts.get(number)
        if found is None:
            raise LearnerError(
                "The batch held more new texts than are kept.", remedy="Send fewer rows at once."
            )
        return found


NOVEL = Novel()


def watched(field: Field) -> tuple[str, ...]:
    """The categories of a column that the monitors tell apart."""
    return ("false", "true") if field.kind == "bool" else field.values[:WATCHED]


def read_field(column: object) -> Field:
    """A column of a stored configuration.

    Raises:
        ArtifactError: it is none.
    """
    if not isinstance(column, list) or len(column) != 3:
        raise bad_config("pyfunc", "a column is no name, kind and values")
    name, kind, values = column
    good = isinstance(name, str) and kind in KINDS and is_texts(values)
    if not good or len(set(values)) < len(values) or len(values) > MAX_VALUES:
        raise bad_config("pyfunc", f"its column {str(name)[:80]!r} is none")
    if values and kind != "str":
        raise bad_config("pyfunc", f"its column {name[:80]!r} is of numbers and has texts")
    return Field(name, kind, tuple(values))


def fit_field(name: str, kind: str, values: Sequence[object]) -> Field:
    """The column of a kind with the values that the reference data holds.

    Raises:
        DataError: a value is not of that kind.
    """
    field = Field(name, kind)
    try:
        for index, value in enumerate(values):
            encode(field, index, value)
    except InvalidRow as error:
        raise DataError(error.message, remedy=error.remedy, **error.fields) from error
    if kind != "str":
        return field
    counts: dict[str, int] = {}
    for value in values:
        if isinstance(value, str):
            counts[value] = counts.get(value, 0) + 1
    ranked = sorted(counts, key=lambda text: (-counts[text], text))
    return Field(name, kind, tuple(ranked[:MAX_VALUES]))


def encode(field: Field, index: int, value: object) -> float:
    """A value of row `index` as a number; NaN where it is missing.

    Raises:
        InvalidRow: it is not of the column's kind.
    """
    if value is None:
        if field.kind in ("int64", "int32", "bool"):
            raise _bad_value(field, index, value)
        return math.nan
    if field.kind == "str":
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            raise _bad_value(field, index, value)
        code = field.codes.get(value)
        return float(code if code is not None else len(field.values) + NOVEL.number(value))
    truth = isinstance(value, bool)
    if field.kind == "bool":
        if not truth:
            raise _bad_value(field, index, value)
        return float(bool(value))
    if truth or not isinstance(value, int | float) or not abs(value) <= 1e300:
        raise _bad_value(field, index, value)
    if field.kind in ("int64", "int32"):
        most = 2.0**53 if field.kind == "int64" else 2.0**31 - 1
        if abs(value) > most or float(value) != int(value):
            raise _bad_value(field, index, value)
    return float(value)


def decode(field: Field, column: NDArray[Any]) -> Values:
    """An encoded column (N,) as the model takes it."""
    if field.kind in NUMBERS:
        return np.ascontiguousarray(column, dtype=field.kind)
    if field.kind == "bool":
        return np.ascontiguousarray(column, dtype=np.bool_)
    known = len(field.values)
    return [
        None
        if math.isnan(code)
        else (field.values[int(code)] if code < known else NOVEL.text(int(code) - known))
        for code in column.tolist()
    ]


def _bad_value(field: Field, index: int, value: object) -> InvalidRow:
    return InvalidRow(
        f"Row {index} has {repr(value)[:40]} in the column '{field.name}', which is {field.kind}.",
        remedy="Send a value of that kind.",
        row=index,
        column=field.name,
    )
