"""The learner of adopted versions: rows to columns and back, exactly; answers to outputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from homeostat.errors import ArtifactError, DataError, InvalidRow, LearnerError, Refused
from models.pyfunc import Apart, Pyfunc
from models.pyfunc_columns import Novel, Values

KINDS = {"size": "float64", "count": "int64", "open": "bool", "colour": "str"}
ROWS: list[dict[str, Any]] = [
    {"size": 0.1, "count": 2**53 - 1, "open": True, "colour": "red"},
    {"size": None, "count": -3, "open": False, "colour": None},
    {"size": 1e-300, "count": 0, "open": False, "colour": "blue"},
    {"size": -7, "count": 1, "open": True, "colour": "red"},
]
LABELS = ["no", "yes", "yes", "no"]


class Echo(Apart):
    """Keeps what it is asked, and answers what it was told to."""

    def __init__(self, answer: Values) -> None:
        super().__init__({})
        self.answer = answer
        self.asked: Mapping[str, Values] = {}

    def ask(self, columns: Mapping[str, Values], tensor: str) -> Values:
        assert tensor == ""
        self.asked = columns
        return self.answer


def learner(**options: Any) -> Pyfunc:  # noqa: ANN401 - any option
    return Pyfunc.from_data(ROWS, LABELS, {"kinds": KINDS} | options)


def test_a_model_is_asked_exactly_what_the_rows_say() -> None:
    mine, echo = learner(), Echo(["yes", "no", "no", "yes", "yes"])
    new = {"size": 3, "count": 5, "open": True, "colour": "ultraviolet"}
    mine.predict(echo, mine.encode([*ROWS, new]))
    assert np.array_equal(echo.asked["size"], [0.1, np.nan, 1e-300, -7, 3], equal_nan=True)
    count, is_open = echo.asked["count"], echo.asked["open"]
    assert isinstance(count, np.ndarray)
    assert (str(count.dtype), count.tolist()) == ("int64", [2**53 - 1, -3, 0, 1, 5])
    assert isinstance(is_open, np.ndarray)
    assert (str(is_open.dtype), is_open.tolist()) == ("bool", [True, False, False, True, True])
    assert echo.asked["colour"] == ["red", None, "blue", "red", "ultraviolet"]


def test_the_configuration_makes_an_equal_learner() -> None:
    mine = learner()
    again = Pyfunc.from_config(json.loads(json.dumps(mine.config())))
    assert again == mine
    assert torch.equal(again.encode(ROWS).nan_to_num(), mine.encode(ROWS).nan_to_num())


@pytest.mark.parametrize(
    "bad",
    [
        {"size": "0.1"},
        {"size": True},
        {"size": float("inf")},
        {"size": [1]},
        {"count": 1.5},
        {"count": None},
        {"count": 2**60},
        {"open": 1},
        {"open": None},
        {"colour": 7},
        {"colour": "x" * 10_001},
        {"more": 1},
    ],
    ids=str,
)
def test_a_value_of_another_kind_is_refused_by_its_row(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidRow) as caught:
        learner().encode([ROWS[0], ROWS[0] | bad])
    assert caught.value.fields["row"] == 1


def test_names_of_classes_become_outputs_and_come_back() -> None:
    mine = learner()
    outputs = mine.predict(Echo(["yes", "no", "yes", "no"]), mine.encode(ROWS))
    assert [one["prediction"] for one in mine.answers(outputs)] == ["yes", "no", "yes", "no"]
    assert mine.score(outputs, LABELS).tolist() == [1.0, 1.0, 0.0, 0.0]


def test_probabilities_stay_what_they_are_in_the_order_of_the_models_classes() -> None:
    mine = learner(classes=["yes", "no"])
    given = np.array([[0.7, 0.3]] * 4)
    outputs = mine.predict(Echo(given), mine.encode(ROWS))
    assert mine.answers(outputs)[0] == {"prediction": "yes", "confidence": pytest.approx(0.7)}


def test_a_regression_gives_numbers_and_is_scored_by_the_spread_of_its_labels() -> None:
    mine = Pyfunc.from_data(ROWS, [0.5, 1.5, 2.5, 3.5], {"kinds": KINDS})
    outputs = mine.predict(Echo(np.array([0.5, 1.5, 2.5, 100.0])), mine.encode(ROWS))
    assert mine.task == "regression"
    assert mine.score(outputs, [0.5, 1.5, 2.5, 3.5]).tolist() == [0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    "answer",
    [
        ["yes"],
        ["yes", "no", "maybe", "no"],
        np.zeros((4, 3)),
        np.zeros((4, 2, 2)),
        np.zeros(0),
        [None] * 4,
    ],
    ids=str,
)
def test_an_answer_that_is_none_is_the_models_failure(answer: Values) -> None:
    mine = learner()
    with pytest.raises(LearnerError):
        mine.predict(Echo(answer), mine.encode(ROWS))


@pytest.mark.parametrize(
    "change",
    [
        {"task": "clustering"},
        {"columns": []},
        {"columns": [["a", "float64"]]},
        {"columns": [["a", "complex", []]]},
        {"columns": [["a", "float64", ["x"]]]},
        {"columns": [["a", "str", ["x", "x"]]]},
        {"columns": [["a", "str", []], ["a", "str", []]]},
        {"columns": [["a", "str", []]] * 5000},
        {"tensor": "object"},
        {"classes": ["one"]},
        {"scale": 0},
        {"scale": "1"},
        {"code": "import os"},
    ],
    ids=lambda change: str(change)[:60],
)
def test_a_configuration_that_is_none_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError):
        Pyfunc.from_config(learner().config() | change)


def test_the_monitors_see_rare_and_new_texts_as_one() -> None:
    rows = [{"word": f"w{n % 80}"} for n in range(400)]
    mine = Pyfunc.from_data(rows, ["a", "b"] * 200, {"kinds": {"word": "str"}})
    known, rare, new = mine.observe(mine.encode([{"word": w} for w in ("w0", "w79", "other")]))
    assert known[0] < 64
    assert rare[0] == new[0] == 64
    assert mine.features[0].categories == mine.fields[0].values[:64]


def test_data_that_the_model_cannot_take_is_refused() -> None:
    with pytest.raises(DataError):
        Pyfunc.from_data([{"a": "x"}, {"a": 1.0}], ["y", "n"], {"kinds": {"a": "float64"}})


def test_it_cannot_be_trained() -> None:
    with pytest.raises(Refused, match="cannot be trained"):
        learner().build(torch.Generator())


def test_only_the_newest_texts_are_kept() -> None:
    novel = Novel(most=2)
    numbers = [novel.number(text) for text in ("a", "b", "a", "c")]
    assert numbers == [0, 1, 0, 2]
    assert (novel.text(0), novel.text(2)) == ("a", "c")
    with pytest.raises(LearnerError):
        novel.text(1)
