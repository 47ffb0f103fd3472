"""Learners are found by name or import path, and every mistake says what to do."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from homeostat.errors import SettingsError
from models import Digits, Learner, Table, find_learner, known_learners


def test_installed_learners_are_known_by_name() -> None:
    known = known_learners()
    assert known["digits"] == "models.digits:Digits"
    assert known["table"] == "models.table:Table"


def test_a_learner_is_found_by_name_or_import_path() -> None:
    assert find_learner("digits") is Digits
    assert find_learner("models.table:Table") is Table


def test_every_learner_that_is_offered_is_there() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    offered = project["entry-points"]["homeostat.learners"]
    assert set(offered) >= {"digits", "table", "text"}
    assert all(issubclass(find_learner(path), Learner) for path in offered.values())


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("digit", "Did you mean 'digits'?"),
        ("models.digits:Digit", "Did you mean 'Digits'?"),
        ("no_such_module_here:Learner", "cannot be imported"),
        ("models.digits:DigitsNet", "is not a Learner"),
        ("models.learner:Learner", "lacks answers, build"),
        ("models.digits:", "has no ''"),
        (":Digits", "cannot be imported"),
    ],
)
def test_a_wrong_reference_is_an_error_that_says_why(reference: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        find_learner(reference)
    assert said in caught.value.message
    assert caught.value.remedy
