"""Broken feeds: a column in another unit, out of its range, constant, or gone.

They look like drift and are none: a retrain would learn the fault. They are read from what the
input detector notes of its guilty columns, and from a few of the last rows, so no row costs more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from monitoring.columns import Column
from monitoring.counting import Floats

MASS = 0.9  # of the rows in one bin, where the reference had at most half as many
GONE = 0.9  # rise of missing or unknown values at which a column is gone altogether
FAR = 0.5  # total variation from which a change of unit is looked for
LEAST_ROWS = 16  # that a factor is read from
_CLOSE = 1.25  # a factor, and quartiles among themselves, agree within so much
_UNITS = (10.0, 24.0, 60.0, 100.0, 1e3, 3600.0, 1e4, 1e6)


@dataclass(frozen=True)
class Break:
    """A column that is broken, what is wrong with it, and what to do.

    Args:
        name: Of the column.
        kind: What is wrong.
        reason: In a few words.
        remedy: The same.
        factor: By which its values were multiplied; None unless `unit`.
    """

    name: str
    kind: Literal["unit", "range", "constant", "gone"]
    reason: str
    remedy: str
    factor: float | None = None


def find_breaks(
    guilty: Sequence[Mapping[str, Any]], columns: Sequence[Column], values: Floats
) -> list[Break]:
    """What is broken among the columns that a detector calls guilty.

    A fault of a feed is that of a few columns. Where most of the guilty ones have moved in no such
    way it is the world that moved, and one that looks broken among them does so by chance; only
    columns that are gone are told then.

    Args:
        guilty: Of all columns, as `FeatureEvidence` has them; those without evidence are passed
            over.
        columns: C of the profile, prediction and confidence last: these two are no feed.
        values: (N, C) the last rows since the change.
    """
    places = {column.name: place for place, column in enumerate(columns[:-2])}
    found, moved = [], 0
    most = max((float(one["evidence"]) for one in guilty), default=0.0)
    for one in guilty:
        place = places.get(str(one["name"]))
        if place is None or float(one["evidence"]) <= most / 2:
            continue
        moved += 1
        own = values[:, place] if len(values) else np.zeros(0)
        broken = _break(one, columns[place], own[np.isfinite(own)])
        if broken is not None:
            found.append(broken)
    if 2 * len(found) <= moved:
        return [one for one in found if one.kind == "gone"]
    return found


def _break(one: Mapping[str, Any], column: Column, values: Floats) -> Break | None:
    name = column.name
    if float(one["broken"]) >= GONE:
        known = "no value" if one["moved"] == "missing" else "no value that is known"
        return Break(
            name,
            "gone",
            f"'{name}' has {known} in nearly all rows: null, renamed, or of another type",
            f"see that '{name}' is sent under this name and as before",
        )
    if column.kind != "numeric":
        return None
    factor = _factor(column, values) if float(one["total_variation"]) >= FAR else None
    if factor is not None:
        said = f"{factor:,.0f} times" if factor > 1 else f"1/{1 / factor:,.0f} of"
        return Break(
            name,
            "unit",
            f"'{name}' is about {said} what it was: another unit",
            f"send '{name}' in the unit that the model was trained with",
            factor,
        )
    if float(one["after"]) < MASS or float(one["before"]) > MASS / 2:
        return None
    if len(values) >= LEAST_ROWS and np.ptp(values) == 0.0:
        return Break(
            name,
            "constant",
            f"'{name}' is {values[0]:.4g} in all of the last {len(values)} rows",
            f"see why '{name}' no longer changes",
        )
    if one["moved"] in (column.bin_name(0), column.bin_name(column.width - 2)) and (
        not len(values) or _is_far(column, values)
    ):
        return Break(
            name,
            "range",
            f"'{name}' is '{one['moved']}' in {float(one['after']):.0%} of the rows, where "
            f"{float(one['before']):.0%} were: out of the range that was trained on",
            f"see whether '{name}' is measured as before",
        )
    return None


def _is_far(column: Column, values: Floats) -> bool:
    """Whether nearly all values are further from the bins than these are wide together."""
    if not column.edges:
        return False
    first, last = column.edges[0], column.edges[-1]
    low, high = np.quantile(values, (1 - MASS, MASS))
    return bool(low > 2 * last - first or high < 2 * first - last)


def _factor(column: Column, values: Floats) -> float | None:
    """The known factor without which the rows are distributed as the reference; None: none.

    Quartiles say which it may be. Divided by it, the rows have to be within the Kolmogorov distance
    that as many rows of the reference have in 19 of 20 cases (Massart, *Annals of Probability* 18,
    1990): a column of many zeros that has fewer now is none.
    """
    counts = np.array(column.counts[:-1], dtype=np.float64)
    if len(values) < LEAST_ROWS or len(column.edges) < 3 or not counts.sum():
        return None
    below = (counts.cumsum() / counts.sum())[:-1]
    before = np.interp((0.25, 0.5, 0.75), below, column.edges)
    after = np.quantile(values, (0.25, 0.5, 0.75))
    wide, was = float(after[2] - after[0]), float(before[2] - before[0])
    ratios = [wide / was] if was > 0 else []
    if abs(before[1]) > was:  # a median that is clearly not 0 has to move along
        ratios.append(float(after[1] / before[1]))
    found = next(
        (
            unit
            for each in _UNITS
            for unit in (each, 1.0 / each)
            # The spread of few rows says less than their median.
            if ratios
            and 1 / _CLOSE < ratios[-1] / unit < _CLOSE
            and 1 / _CLOSE**3 < ratios[0] / unit < _CLOSE**3
        ),
        None,
    )
    if found is None:
        return None
    apart = np.abs((values[:, None] / found < np.array(column.edges)).mean(axis=0) - below)
    return found if apart.max() <= math.sqrt(math.log(40) / (2 * len(values))) else None
