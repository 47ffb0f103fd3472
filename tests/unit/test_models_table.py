"""Tables: columns told from data, missing and unknown values, typed refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from homeostat.errors import ArtifactError, DataError, InvalidRow, SettingsError
from homeostat.schema import Feature
from models import Budget, Examples, Row, Table, evaluate

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS: list[Row] = [
    {"age": 20, "town": "Ulm", "member": True},
    {"age": 30.0, "town": None, "member": False},
    {"age": None, "town": "Bonn", "member": True},
    {"age": 40, "town": "Ulm", "member": None},
]
LABELS = ["no", "yes", "no", "yes"]


def table(**options: object) -> Table:
    return Table.from_data(ROWS, LABELS, options)


def test_columns_are_told_from_their_values() -> None:
    learner = table()
    assert learner.features == (
        Feature("age"),
        Feature("town", "categorical", ("Bonn", "Ulm")),
        Feature("member", "categorical", ("false", "true")),
    )
    age = learner.columns[0]
    assert age.mean == 30.0
    assert age.deviation == pytest.approx(np.std([20, 30, 40]))


def test_what_is_encoded_is_what_the_monitors_should_see() -> None:
    """Raw numbers, category codes, the code after the last for another value, NaN for none."""
    learner = table()
    batch = learner.encode([*ROWS, {"age": -7, "town": "Rome", "member": True}])
    observed = learner.observe(batch)
    wanted = [[20, 1, 1], [30, np.nan, 0], [np.nan, 0, 1], [40, 1, np.nan], [-7, 2, 1]]
    assert np.array_equal(observed, np.array(wanted, dtype=float), equal_nan=True)


def test_a_row_may_be_a_list_in_column_order() -> None:
    learner = table()
    assert torch.equal(learner.encode([[25, "Ulm", True]]), learner.encode([ROWS[0] | {"age": 25}]))


def test_numbers_that_are_codes_and_columns_to_ignore_go_by_option() -> None:
    learner = table(categorical=["age"], ignore=["member"])
    assert [feature.name for feature in learner.features] == ["age", "town"]
    assert learner.features[0].categories == ("20", "30", "40")
    with_or_without = learner.encode([ROWS[0], {"age": 20, "town": "Ulm"}])
    assert torch.equal(with_or_without[0], with_or_without[1])


def test_rare_categories_are_one() -> None:
    rows = [{"c": value} for value in ["a", "a", "b", "b", "rare"]]
    learner = Table.from_data(rows, [0, 1, 0, 1, 0], {"max_categories": 2})
    assert learner.features[0].categories == ("a", "b")
    assert learner.encode([{"c": "rare"}]).tolist() == [[2.0]]


def test_missing_and_unknown_values_still_get_an_answer() -> None:
    learner = table()
    model = learner.build(torch.Generator().manual_seed(0))
    outputs = learner.predict(
        model,
        learner.encode(
            [
                {"age": None, "town": None, "member": None},
                {"age": 1e30, "town": "Rome", "member": "perhaps"},
            ]
        ),
    )
    assert np.isfinite(outputs).all()


def test_a_missing_number_counts_as_the_mean() -> None:
    learner = table()
    model = learner.build(torch.Generator().manual_seed(0))
    batch = learner.encode([[None, "Ulm", True], [30.0, "Ulm", True]])
    outputs = learner.predict(model, batch)
    assert np.allclose(outputs[0], outputs[1])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "20", [1], 10**400, 1e39])
def test_a_bad_number_is_refused_by_row_and_column(value: object) -> None:
    with pytest.raises(InvalidRow) as caught:
        table().encode([ROWS[0], ROWS[1] | {"age": value}])
    assert caught.value.fields == {"row": 1, "column": "age"}


@pytest.mark.parametrize("value", [math.nan, [1], {"a": 1}])
def test_a_bad_category_is_refused_by_row_and_column(value: object) -> None:
    with pytest.raises(InvalidRow) as caught:
        table().encode([ROWS[0], ROWS[1] | {"town": value}])
    assert caught.value.fields == {"row": 1, "column": "town"}


def test_whether_a_truth_value_is_a_number_does_not_hang_on_its_neighbours() -> None:
    learner = Table.from_data([{"n": 1.5}, {"n": 0}], [0, 1], {})
    assert learner.encode([{"n": True}]).tolist() == [[1.0]]
    assert learner.encode([{"n": True}, {"n": 0.5}]).tolist() == [[1.0], [0.5]]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"age": 1, "town": "Ulm"}, "lacks the column 'member'"),
        ({"age": 1, "town": "Ulm", "member": True, "agee": 2}, "Did you mean 'age'?"),
        ([1, "Ulm"], "has 2 values"),
        ("Ulm", "is no object"),
        (None, "is no object"),
    ],
)
def test_a_row_of_other_columns_is_refused_by_index(row: object, said: str) -> None:
    with pytest.raises(InvalidRow) as caught:
        table().encode([ROWS[0], row])
    assert said in caught.value.message
    assert caught.value.fields["row"] == 1


def test_an_empty_batch_is_a_batch() -> None:
    assert table().encode([]).shape == (0, 3)


@pytest.mark.parametrize("labels", [[0.5, 1, 2, 3], list(range(30))])
def test_many_or_fractional_numbers_make_a_regression(labels: list[float]) -> None:
    rows = [{"x": float(value)} for value in labels]
    assert Table.from_data(rows, labels, {}).task == "regression"
    some = Table.from_data(rows, [int(value > 1) for value in labels], {})
    assert some.task == "classification"
    assert Table.from_data(rows, labels, {"task": "classification"}).task == "classification"


def test_a_regressions_scale_is_the_interquartile_range() -> None:
    rows = [{"x": value} for value in range(101)]
    learner = Table.from_data(rows, [float(value) for value in range(101)], {})
    assert (learner.center, learner.scale) == (50.0, 50.0)
    skewed = Table.from_data(rows, [0.0] * 90 + [10.5] * 11, {})
    assert skewed.scale == pytest.approx(np.std([0.0] * 90 + [10.5] * 11))


@pytest.mark.parametrize(
    ("rows", "labels", "said"),
    [
        ([], [], "no row"),
        (ROWS, ["no"] * 4, "only the class 'no'"),
        (ROWS, [1.5] * 4, "nothing to learn"),
        ([{"a": None}] * 2, [0, 1], "holds no value"),
        ([{"a": math.inf}, {"a": 1}], [0, 1], "cannot be learnt from"),
        ([{"a": [1]}, {"a": "x"}], [0, 1], "cannot be learnt from"),
        ([{"a": 1}, {"b": 1}], [0, 1], "Row 1 lacks the column 'a'"),
        (["text", "text"], [0, 1], "neither an object nor a list"),
    ],
)
def test_data_that_cannot_be_learnt_from_is_refused(
    rows: list[Row], labels: list[float], said: str
) -> None:
    with pytest.raises(DataError, match=said) as caught:
        Table.from_data(rows, labels, {})
    assert caught.value.remedy


def test_options_are_checked() -> None:
    with pytest.raises(SettingsError, match="Did you mean 'ignore'"):
        table(ignor=["age"])
    with pytest.raises(SettingsError, match="'classification' or 'regression'"):
        table(task="ranking")
    with pytest.raises(SettingsError, match="list of names"):
        table(ignore="age")
    with pytest.raises(DataError, match="no column 'aeg'"):
        table(ignore=["aeg"])
    with pytest.raises(DataError, match="Every column is ignored"):
        table(ignore=["age", "town", "member"])


@pytest.mark.parametrize("labels", [LABELS, [0.5, 1.5, 2.0, 8.0]])
def test_the_configuration_makes_an_equal_learner(labels: list[object]) -> None:
    learner = Table.from_data(ROWS, labels, {"hidden": 8})
    assert Table.from_config(learner.config()) == learner


@pytest.mark.parametrize(
    "change",
    [
        {"task": "ranking"},
        {"columns": []},
        {"columns": [{"name": "a"}]},
        {"columns": [{"name": "a", "mean": 0, "deviation": 0}]},
        {"columns": [{"name": "a", "categories": ["x", "x"]}]},
        {"columns": [{"name": "a", "categories": []}] * 2},
        {"columns": "age"},
        {"classes": []},
        {"hidden": 10**9},
        {"scale": 0},
        {"center": "0"},
        {"ignore": "age"},
        {"surprise": 1},
    ],
)
def test_a_configuration_not_of_its_own_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ArtifactError, match="stored configuration"):
        Table.from_config({**table().config(), **change})


def drawn(rows: int, seed: int) -> tuple[list[Row], list[float]]:
    """Rows whose value hangs on a number and a category, with some values missing."""
    rng = np.random.default_rng(seed)
    found: list[Row] = []
    values: list[float] = []
    for _ in range(rows):
        size, kind = float(rng.normal(1000, 200)), str(rng.choice(["small", "big"]))
        values.append(size / 10 + (50 if kind == "big" else 0) + float(rng.normal(0, 2)))
        found.append({"size": None if rng.random() < 0.02 else size, "kind": kind})
    return found, values


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_both_tasks_are_learnt_from_raw_columns(task: str) -> None:
    rows, values = drawn(600, 0)
    held, truths = drawn(300, 1)
    if task == "classification":
        values, truths = [v > 125 for v in values], [v > 125 for v in truths]
    learner = Table.from_data(rows, values, {})
    assert learner.task == task
    model = learner.build(torch.Generator().manual_seed(0))
    data = Examples(learner.encode(rows), learner.targets(values))
    learner.fit(model, data, None, Budget(epochs=20), torch.Generator().manual_seed(0))
    assert evaluate(learner, model, learner.encode(held), truths).accuracy > 0.9
