"""The bins of a watched column, and counting rows into them.

Shapes: N rows, C columns, B bins of the widest column.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from homeostat.schema import Feature
from monitoring.counting import BLOCK, Counts, Floats, Group

QUANTILES = 10  # bins of equal probability of a numeric column, before single values get their own
CATEGORIES = 30  # categories with a bin of their own; the rest share one
_ALONE = 1e-6  # of a constant column's value: how far its bin reaches
_ROWS_AT_ONCE = 512  # bounds the memory of binning


@dataclass(frozen=True)
class Column:
    """One watched column: its bins and how many reference rows fell into each.

    Args:
        name: Shown to people.
        kind: `numeric` or `categorical`.
        edges: Of a numeric column, ascending: bin i holds edges[i-1] <= value < edges[i].
        codes: Of a categorical column: bin i holds the value codes[i].
        labels: Of a categorical column: the codes' names, where known.
        counts: Rows in each bin; the last bin is `missing` (NaN, infinite), and for a
            categorical column the last but one is any other code.
    """

    name: str
    kind: str
    edges: tuple[float, ...]
    codes: tuple[int, ...]
    labels: tuple[str, ...]
    counts: tuple[int, ...]

    @property
    def width(self) -> int:
        """Number of bins, the missing one included."""
        return len(self.edges) + 2 if self.kind == "numeric" else len(self.codes) + 2

    def bin_name(self, index: int) -> str:
        """A bin in words: `missing`, `other`, a category, or a range of numbers."""
        if index == self.width - 1:
            return "missing"
        if self.kind == "categorical":
            names = self.labels or tuple(str(code) for code in self.codes)
            return names[index] if index < len(self.codes) else "other"
        if (value := self._value(index)) is not None:
            return f"{value:.4g}"
        if (above := self._value(index - 1)) is not None and index == len(self.edges):
            return f"above {above:.4g}"
        if (below := self._value(index + 1)) is not None and index == 0:
            return f"below {below:.4g}"
        low = f"{self.edges[index - 1]:.4g}" if index else ""
        high = f"{self.edges[index]:.4g}" if index < len(self.edges) else ""
        if not (low or high):
            return "any number"
        if not low:
            return f"below {high}"
        return f"{low} to {high}" if high else f"{low} and above"

    def _value(self, index: int) -> float | None:
        """The one value that a bin holds, where the reference was constant; None: it holds more."""
        if not 0 < index < len(self.edges):
            return None
        low, high = self.edges[index - 1], self.edges[index]
        middle = low / 2 + high / 2
        return middle if high - low <= 4 * _ALONE * max(abs(middle), 1.0) else None


class Binning:
    """The bins of all columns laid out as arrays, to count a batch in one go.

    Args:
        columns: C columns.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self.bins = max(column.width for column in columns)
        coded = [i for i, column in enumerate(columns) if column.kind == "categorical"]
        numeric = [i for i in range(len(columns)) if i not in coded]
        self._groups = []
        if numeric:
            self._groups.append(Group.of_edges(numeric, [columns[i].edges for i in numeric]))
        if coded:
            self._groups.append(Group.of_codes(coded, [columns[i].codes for i in coded]))
        self._order = np.array(numeric + coded)
        stops = np.cumsum([len(group.columns) for group in self._groups]).tolist()
        self._own = [
            slice(stop - len(group.columns), stop)  # of a block
            for stop, group in zip(stops, self._groups, strict=True)
        ]
        self._missing = np.array([column.width - 1 for column in columns])
        self._offsets = np.arange(len(columns))[:, None] * self.bins

    @property
    def places(self) -> Counts:
        """Where each column stands in the blocks that are counted, (C,): alike ones together."""
        return np.argsort(self._order)

    def indices(self, values: Floats) -> Counts:
        """The bin of each value, (N, C)."""
        return self._found(values.T).T

    def _found(self, values: Floats) -> Counts:
        found = np.empty(values.shape, dtype=np.int64)
        for start in range(0, values.shape[1], _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            for group in self._groups:
                found[group.columns, rows] = group.indices(values[group.columns, rows])
        finite = np.isfinite(values)
        return found if finite.all() else np.where(finite, found, self._missing[:, None])

    def count(self, values: Floats) -> Counts:
        """Rows in each bin, (C, B); the bins that a column has not stay 0."""
        blocks = (values[at : at + BLOCK].T[self._order] for at in range(0, len(values), BLOCK))
        return np.asarray(self.count_blocks([blocks])[0])

    def count_parts(self, values: Floats, part: Counts, parts: int) -> Counts:
        """`count` of each part of the rows, (parts, C, B); for small parts in any order.

        Args:
            values: (N, C).
            part: (N,) which part each row is of, below `parts`.
            parts: How many there are.
        """
        shape = (parts, len(self.columns), self.bins)
        flat = self._found(values.T)
        flat += self._offsets
        flat += part * (shape[1] * shape[2])
        return np.bincount(flat.ravel(), minlength=shape[0] * shape[1] * shape[2]).reshape(shape)

    def count_blocks(self, parts: Sequence[Iterable[Floats]]) -> Counts:
        """`count` of each part of the rows, (parts, C, B); for large parts.

        Args:
            parts: Of each, blocks of its rows, (C, n): columns first and each in its place of
                `places`, n at most `BLOCK`.
        """
        passed = [np.zeros((len(parts), *group.shape), np.int64) for group in self._groups]
        finite = np.zeros((len(parts), len(self.columns)), np.int64)
        missing = np.zeros_like(finite)
        for place, blocks in enumerate(parts):
            for block in blocks:
                known = np.isfinite(block)
                clean = block if known.all() else np.where(known, block, np.nan)
                there = known.sum(axis=1) if clean is not block else block.shape[1]
                finite[place] += there
                missing[place] += block.shape[1] - there
                for sums, group, part in zip(passed, self._groups, self._own, strict=True):
                    sums[place] += group.passed(clean[part])
        counts = np.empty((*finite.shape, self.bins), np.int64)
        for sums, group, part in zip(passed, self._groups, self._own, strict=True):
            counts[:, group.columns] = group.count(sums, finite[:, part], self.bins)
        counts[:, self._order, self._missing[self._order]] = missing
        return counts


def draw_bins(feature: Feature, sample: Floats, all_rows: Floats) -> Column:
    """A column with its bins and no counts yet.

    Args:
        feature: What it watches.
        sample: Rows that the bins of a numeric column are fitted to.
        all_rows: Rows that the categories with a bin of their own are chosen by.
    """
    if feature.kind == "numeric":
        return Column(feature.name, "numeric", _edges(sample), (), (), ())
    codes: Sequence[int] = range(len(feature.categories))
    if len(codes) > CATEGORIES:
        seen = np.bincount(_whole(all_rows, np.array(len(codes))), minlength=len(codes))
        codes = sorted(int(c) for c in np.argsort(-seen[: len(codes)], kind="stable")[:CATEGORIES])
    labels = tuple(feature.categories[code] for code in codes)
    return Column(feature.name, "categorical", (), tuple(codes), labels, ())


def _edges(sample: Floats) -> tuple[float, ...]:
    """Cuts between observed values, near the quantiles; a frequent value has a bin of its own.

    A constant column gets three bins: below, the value, above.
    """
    values, repeats = np.unique(sample[np.isfinite(sample)], return_counts=True)
    if not len(values):
        return ()
    share = repeats / repeats.sum()
    ends = share.cumsum()
    cuts = {int(np.searchsorted(ends, j / QUANTILES - 1e-9)) for j in range(1, QUANTILES)}
    frequent = np.flatnonzero(share >= 1.0 / QUANTILES)
    cuts |= {int(i) for i in frequent} | {int(i) - 1 for i in frequent}
    # Cut i lies between values[i] and values[i + 1]; beyond the ends, as far as the next value.
    alone = max(abs(float(values[0])), 1.0) * 2 * _ALONE
    gap = (float(np.diff(values).min()) if len(values) > 1 else alone) / 2
    if len(values) - 1 not in frequent:
        cuts.discard(len(values) - 1)
    padded = np.concatenate([[values[0] - 2 * gap], values, [values[-1] + 2 * gap]])
    middles = padded[:-1] / 2 + padded[1:] / 2
    # Neighbouring doubles can share their middle, and huge ones have none.
    return tuple(sorted({float(middles[cut + 1]) for cut in cuts if np.isfinite(middles[cut + 1])}))


def _whole(values: Floats, last: Counts) -> Counts:
    """Values as whole numbers, those that are none or not in [0, last) as `last`."""
    with np.errstate(invalid="ignore"):
        known = (values >= 0) & (values < last) & (values == np.floor(values))
    return np.where(known, values, last).astype(np.int64)


def read_column(entry: Any) -> Column:  # noqa: ANN401 - whatever the JSON holds
    """A column from its JSON.

    Raises:
        ValueError: bins and counts that do not fit (or KeyError, TypeError: no column at all).
    """
    column = Column(
        str(entry["name"]),
        str(entry["kind"]),
        tuple(float(edge) for edge in entry["edges"]),
        tuple(int(code) for code in entry["codes"]),
        tuple(str(label) for label in entry["labels"]),
        tuple(int(count) for count in entry["counts"]),
    )
    whole = column.kind in ("numeric", "categorical") and len(column.counts) == column.width
    ascending = all(np.isfinite(column.edges)) and list(column.edges) == sorted(set(column.edges))
    codes_fit = all(0 <= code < 10_000_000 for code in column.codes)
    codes_fit = codes_fit and len(set(column.codes)) == len(column.codes)
    if not (whole and ascending and codes_fit and all(count >= 0 for count in column.counts)):
        raise ValueError(f"column {column.name!r} has bins and counts that do not fit")
    return column
