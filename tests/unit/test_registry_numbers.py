from __future__ import annotations

from dataclasses import replace

import pytest

from homeostat.errors import InputError
from registry.numbers import FIRST, Make, Number, next_number, step_between

MAKE = Make("digits", {"hidden": 64}, ("pixel_0_0",), "ab" * 32, (0, 1), "cd" * 32)


@pytest.mark.parametrize(
    "now",
    [
        replace(MAKE, learner="table"),
        replace(MAKE, options={"hidden": 128}),
        replace(MAKE, inputs=("pixel_0_0", "pixel_0_1")),
        replace(MAKE, layers="ef" * 32),
    ],
)
def test_another_learner_configuration_input_or_architecture_is_a_major_step(now: Make) -> None:
    assert step_between(MAKE, now, goes_on=False) == "major"


@pytest.mark.parametrize("now", [replace(MAKE, data="00" * 32), replace(MAKE, classes=(0, 1, 2))])
def test_new_data_and_new_classes_are_a_minor_step(now: Make) -> None:
    assert step_between(MAKE, now, goes_on=False) == "minor"


def test_a_refresh_on_the_same_data_is_a_patch() -> None:
    assert step_between(MAKE, MAKE, goes_on=False) == "patch"


def test_a_retrain_that_goes_on_from_the_weights_is_a_patch_whatever_it_learnt() -> None:
    assert step_between(MAKE, replace(MAKE, data="00" * 32), goes_on=True) == "patch"


def test_what_stands_right_of_a_step_begins_anew() -> None:
    number = Number(1, 4, 2)

    assert str(number.after("major")) == "2.0.0"
    assert str(number.after("minor")) == "1.5.0"
    assert str(number.after("patch")) == "1.4.3"


def test_the_first_version_is_one() -> None:
    assert next_number(None, "major", ()) == FIRST
    assert next_number(None, "major", {FIRST}) == Number(2, 0, 0)


def test_a_number_that_is_taken_is_passed_over() -> None:
    taken = {Number(1, 0, 0), Number(1, 0, 1), Number(1, 0, 2), Number(1, 1, 0)}

    assert next_number(Number(1, 0, 0), "patch", taken) == Number(1, 0, 3)
    assert next_number(Number(1, 0, 0), "minor", taken) == Number(1, 2, 0)


def test_numbers_stand_in_order_of_size_and_not_of_spelling() -> None:
    assert Number.parse("1.10.0") > Number.parse("1.9.9")


@pytest.mark.parametrize(
    "text", ["2", "2.0", "2.0.0.0", "v2.0.0", "2.0.x", "02.0.0", "2.0.-1", " 2.0.0", "1.0.1000000"]
)
def test_what_is_no_number_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(InputError, match="version number"):
        Number.parse(text)
