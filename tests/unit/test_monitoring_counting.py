"""Counting by passed bounds gives what looking at each value by itself gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from homeostat.errors import InputError
from homeostat.schema import Feature
from monitoring import Profile
from monitoring.columns import Binning, Column, read_column
from monitoring.counting import BLOCK
from monitoring.watched import Watched

Floats = NDArray[np.float64]
ODD = (np.nan, np.inf, -np.inf, -1.0, 0.5, 1e9, -0.0, 1.0 + 1e-12, np.finfo(float).max)


def bin_of(column: Column, value: float) -> int:
    if not np.isfinite(value):
        return column.width - 1
    if column.kind == "numeric":
        return sum(value >= edge for edge in column.edges)
    return column.codes.index(int(value)) if value in column.codes else len(column.codes)


def naive(columns: list[Column], values: Floats) -> NDArray[np.int64]:
    counts = np.zeros((len(columns), max(column.width for column in columns)), dtype=np.int64)
    for index, column in enumerate(columns):
        for value in values[:, index]:
            counts[index, bin_of(column, value)] += 1
    return counts


def drawn(rng: np.random.Generator, count: int) -> list[Column]:
    """Columns of both kinds with none to many edges or codes."""
    columns = []
    for _ in range(count):
        most = int(rng.integers(0, 14))
        if rng.random() < 0.5:
            edges = np.unique(rng.normal(size=most).round(2))
            columns.append(Column("x", "numeric", tuple(edges.tolist()), (), (), ()))
        else:
            codes = np.sort(rng.permutation(20)[:most])
            columns.append(Column("c", "categorical", (), tuple(codes.tolist()), (), ()))
    return columns


def filled(rng: np.random.Generator, columns: list[Column], rows: int, odd: float) -> Floats:
    """Values around and on the columns' bounds, a share of them odd."""
    values = np.empty((rows, len(columns)))
    for index, column in enumerate(columns):
        bounds = [*column.edges, *map(float, column.codes), 0.0]
        values[:, index] = rng.choice(bounds, rows) + rng.choice([-1.0, 0.0, 0.0, 0.3], rows)
    return np.where(rng.random(values.shape) < odd, rng.choice(ODD, values.shape), values)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 40),
    rows=st.sampled_from([0, 1, 7, 8, 9, 300]),
    odd=st.sampled_from([0.0, 0.2]),
)
def test_each_value_counts_in_its_bin(seed: int, count: int, rows: int, odd: float) -> None:
    rng = np.random.default_rng(seed)
    columns = drawn(rng, count)
    values = filled(rng, columns, rows, odd)
    before, binning = values.copy(), Binning(columns)
    expected = naive(columns, values)
    assert (binning.count(values) == expected).all()
    part = np.zeros(rows, dtype=np.int64)
    assert (binning.count_parts(values, part, 1)[0] == expected).all()
    found = binning.indices(values)
    assert found.tolist() == [
        [bin_of(column, value) for column, value in zip(columns, row, strict=True)]
        for row in values
    ]
    assert np.array_equal(values, before, equal_nan=True)


def test_rows_of_many_blocks_add_up_beyond_what_a_byte_holds() -> None:
    column = Column("x", "numeric", (0.0,), (), (), ())
    values = np.full((3 * BLOCK + 5, 1), 1.0)
    values[-7:] = -1.0
    assert Binning([column]).count(values).tolist() == [[7, 3 * BLOCK - 2, 0]]


def test_a_column_with_more_bounds_than_a_byte_counts_right() -> None:
    rng = np.random.default_rng(0)
    wide = [
        Column("x", "numeric", tuple(np.arange(300.0).tolist()), (), (), ()),
        Column("c", "categorical", (), tuple(range(300)), (), ()),
    ]
    values = rng.integers(-5, 305, size=(500, 2)).astype(float)
    expected, binning = naive(wide, values), Binning(wide)
    assert (binning.count(values) == expected).all()
    assert (binning.count_parts(values, np.zeros(500, np.int64), 1)[0] == expected).all()


def test_hundreds_of_columns_are_counted() -> None:
    rng = np.random.default_rng(1)
    columns = drawn(rng, 300)
    values = filled(rng, columns, 50, 0.01)
    assert (Binning(columns).count(values) == naive(columns, values)).all()


def test_a_view_with_gaps_is_counted_as_its_copy() -> None:
    rng = np.random.default_rng(2)
    columns = drawn(rng, 6)
    values = filled(rng, columns * 2, 1_200, 0.1)
    for view in (values[::2, :6], values[::-1, ::2], np.asfortranarray(values)[:, 3:9]):
        assert (Binning(columns).count(view) == Binning(columns).count(view.copy())).all()


def profile_of(rows: Floats, codes: Floats) -> Profile:
    features = [Feature("x"), Feature("c", "categorical", ("a", "b", "c")), Feature("still")]
    observed = np.column_stack([rows, codes, np.ones(len(rows))])
    confidence = np.linspace(0.5, 1.0, len(rows))
    zeros = np.zeros(len(rows))
    return Profile.from_reference(
        features, "classification", observed, codes, confidence, losses=zeros
    )


@pytest.mark.parametrize("rows", [40, 900, 4_000, 9_001])
def test_parts_of_a_batch_count_as_they_do_alone(rows: int) -> None:
    rng = np.random.default_rng(rows)
    profile = profile_of(rng.normal(size=2_000), rng.integers(0, 3, 2_000).astype(float))
    codes = rng.choice([0.0, 1.0, 2.0, 3.0, np.nan, np.inf], rows)
    observed = np.column_stack([rng.normal(size=rows), codes, rng.choice([1.0, 2.0], rows)])
    watched = Watched.of(observed, codes, rng.random(rows), 3)
    cuts = [0, rows // 3, rows // 3 + 1, rows]
    counts = profile.count_cut(watched, np.diff(cuts).tolist())
    values = watched.columns(0, rows).T
    for own, start, end in zip(counts, cuts, cuts[1:], strict=False):
        assert (own == naive(list(profile.columns), values[start:end])).all()
    assert (profile.counts(observed, codes, watched.confidence) == counts.sum(axis=0)).all()
    assert (profile.count_values(values) == counts.sum(axis=0)).all()


@pytest.mark.parametrize(("predicted", "confidence"), [(3_001, 3_000), (3_000, 2_999), (1, 1)])
def test_a_large_batch_of_unequal_lengths_is_refused(predicted: int, confidence: int) -> None:
    with pytest.raises(InputError, match="do not fit a profile of 2 features"):
        Watched.of(np.zeros((3_000, 2)), np.zeros(predicted), np.zeros(confidence), 2)


def test_a_code_that_comes_twice_is_no_column() -> None:
    entry = {"name": "c", "kind": "categorical", "edges": [], "codes": [1, 1], "labels": []}
    with pytest.raises(ValueError, match="'c'"):
        read_column(entry | {"counts": [0, 0, 0, 0]})
