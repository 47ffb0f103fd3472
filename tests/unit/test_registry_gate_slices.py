"""Which rows a slice holds, and when one is judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from homeostat.policy import GatePolicy, SlicePolicy
from homeostat.schema import Task
from monitoring import holm
from registry import Contender, Evidence
from registry.gate_slices import find_slices, slices

ROWS = [
    {"age": 20, "town": "Ulm", "member": True},
    {"age": 30, "town": "Ulm", "member": False},
    {"age": 59.5, "town": "Bonn"},
    {"age": None, "town": "Bonn", "member": True},
    {"age": 60, "town": None, "member": True},
]


def evidence(
    candidate: Sequence[float],
    champion: Sequence[float] | None,
    *,
    rows: Sequence[Any] = (),
    labels: Sequence[Any] = (),
    task: Task = "classification",
    **policy: Any,  # noqa: ANN401 - of GatePolicy
) -> Evidence:
    other = None if champion is None else Contender("b" * 64, {0: np.array(champion)})
    return Evidence(
        Contender("a" * 64, {0: np.array(candidate)}),
        other,
        GatePolicy.model_validate(policy),
        None,
        task=task,
        rows=rows,
        labels=labels,
    )


def found(given: Evidence) -> dict[str, list[int]]:
    return {each.name: np.flatnonzero(each.rows).tolist() for each in find_slices(given)}


def test_cut_points_values_and_classes_pick_out_their_rows() -> None:
    rules = {
        "age": {"cuts": [30, 60]},
        "town": {"values": ["Ulm", "Bonn"]},
        "member": {"values": ["true"]},
    }
    given = evidence([0] * 5, [0] * 5, rows=ROWS, labels=["x", "y", "x", "y", 3], slices=rules)
    assert found(given) == {
        "class 3": [4],
        "class x": [0, 2],
        "class y": [1, 3],
        "age below 30": [0],
        "age from 30 below 60": [1, 2],
        "age from 60": [4],
        "town = Ulm": [0, 1],
        "town = Bonn": [2, 3],
        "member = true": [0, 3, 4],
    }


def test_rows_that_are_lists_are_cut_by_their_places() -> None:
    given = evidence([0, 0], [0, 0], rows=[[1.0, 5.0], [2.0, 9.0]], slices={"1": {"cuts": [6]}})
    assert found(given) == {"1 below 6": [0], "1 from 6": [1]}


def test_a_regression_has_no_classes_and_a_budget_of_1_switches_them_off() -> None:
    labels = [1.5, 2.5]
    assert found(evidence([0, 0], [0, 0], labels=labels, task="regression")) == {}
    assert found(evidence([0, 0], [0, 0], labels=labels, class_budget=1.0)) == {}


def test_a_slice_that_lost_more_than_its_budget_is_named_with_its_figures() -> None:
    labels = ["a"] * 60 + ["b"] * 60 + ["c"] * 10
    candidate = [1.0] * 25 + [0.0] * 35 + [0.0] * 60 + [1.0] * 10
    figure = slices(evidence(candidate, [0.0] * 130, labels=labels))
    assert figure is not None
    assert not figure.passed
    assert figure.figure == pytest.approx(25 / 60)
    assert figure.bound == 0.1
    assert "class a lost +0.417 of 60 rows (budget 0.100)" in figure.reason
    assert "Too few rows to judge (fewer than 30): class c (10)" in figure.reason
    assert figure.details["class b"]["outcome"] == "within its budget"
    assert figure.details["class c"]["outcome"] == "too few rows"
    assert figure.details["class a"]["p"] < 0.001


def test_where_all_slices_have_too_few_rows_nothing_is_refused() -> None:
    figure = slices(evidence([1.0] * 20, [0.0] * 20, labels=["a"] * 20))
    assert figure is not None
    assert figure.passed
    assert "None of 0 slices" in figure.reason
    assert "class a (20)" in figure.reason


def test_without_a_champion_or_slices_the_gate_does_not_apply() -> None:
    assert slices(evidence([0.0], None, labels=["a"])) is None
    assert slices(evidence([0.0], [0.0])) is None


def test_holm_pays_for_every_test_and_stops_at_the_first_that_holds() -> None:
    assert holm([], 0.05) == []
    assert holm([0.02, 0.01, 0.04], 0.05) == [True, True, True]
    assert holm([0.03, 0.01, 0.04], 0.05) == [False, True, False]
    assert holm([0.03, 0.03, 0.03], 0.05) == [False, False, False]


@pytest.mark.parametrize(
    "rule", [{}, {"values": ["a"], "cuts": [1]}, {"cuts": [2, 1]}, {"cuts": [1], "budget": 2}]
)
def test_a_slice_that_cannot_be_meant_is_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SlicePolicy.model_validate(rule)
