"""Digits: rows in three forms, typed refusals, and a net that is its seed's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from homeostat.errors import ArtifactError, DataError, InvalidRow, SettingsError
from models import Digits
from models.learner import Row

FLAT = [float(ink % 17) for ink in range(64)]
NESTED = [FLAT[start : start + 8] for start in range(0, 64, 8)]


@pytest.mark.parametrize("row", [FLAT, NESTED, {"pixels": FLAT}, {"pixels": NESTED}])
def test_an_image_may_be_flat_nested_or_named(row: object) -> None:
    batch = Digits().encode([row])
    assert batch.dtype == torch.float32
    assert batch.tolist() == [FLAT]


def test_forms_may_be_mixed_in_one_batch() -> None:
    assert Digits().encode([FLAT, NESTED, {"pixels": FLAT}]).tolist() == [FLAT] * 3


class Inverted(Digits):
    """A learner that changes how rows are encoded and knows nothing of arrays."""

    def encode(self, rows: Sequence[Row]) -> torch.Tensor:
        return 16.0 - super().encode(rows)


def test_a_subclass_that_encodes_otherwise_does_so_for_arrays_too() -> None:
    learner = Inverted()
    assert learner.encode_array(np.array([FLAT])).equal(learner.encode([FLAT]))
    assert learner.encode([FLAT]).tolist() == [[16.0 - ink for ink in FLAT]]


def test_an_empty_batch_is_a_batch() -> None:
    learner = Digits()
    batch = learner.encode([])
    assert batch.shape == (0, 64)
    assert learner.predict(learner.build(torch.Generator()), batch).shape == (0, 10)


def with_value(value: object) -> list[object]:
    return [*FLAT[:5], value, *FLAT[6:]]


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, 16.5, "3", None, 10**400, [1]])
def test_a_bad_pixel_is_refused_by_row_and_column(value: object) -> None:
    with pytest.raises(InvalidRow) as caught:
        Digits().encode([FLAT, with_value(value)])
    assert caught.value.fields["row"] == 1
    assert caught.value.remedy
    if not isinstance(value, list):
        assert caught.value.fields["column"] == 5


@pytest.mark.parametrize(
    "row", [FLAT[:63], [*FLAT, 1], [], NESTED[:7], [[1] * 7] * 8, 5, None, "x" * 64, {"ink": FLAT}]
)
def test_a_wrong_shape_is_refused_by_row(row: object) -> None:
    with pytest.raises(InvalidRow) as caught:
        Digits().encode([FLAT, row])
    assert caught.value.fields["row"] == 1


def test_eight_wrong_rows_are_not_taken_for_one_image() -> None:
    with pytest.raises(InvalidRow, match="Row 0 has 8 numbers"):
        Digits().encode(NESTED)


def test_an_image_is_watched_pixel_by_pixel() -> None:
    learner = Digits()
    observed = learner.observe(learner.encode([FLAT]))
    assert [feature.name for feature in learner.features][:9][-1] == "pixel_1_0"
    assert observed.dtype == np.float64
    assert observed.shape == (1, len(learner.features))


def test_outputs_are_probabilities() -> None:
    learner = Digits()
    outputs = learner.predict(learner.build(torch.Generator()), learner.encode([FLAT, FLAT]))
    assert outputs.dtype == np.float32
    assert np.allclose(outputs.sum(axis=1), 1.0)


def test_without_channels_it_is_a_perceptron_that_knows_itself_again() -> None:
    learner = Digits.from_data([FLAT] * 3, [0, 1, 0], {"channels": 0, "hidden": 8})
    module = learner.build(torch.Generator())
    shapes = [tuple(weight.shape) for weight in module.parameters()]
    assert shapes == [(8, 64), (8,), (2, 8), (2,)]
    assert learner.predict(module, learner.encode([FLAT])).shape == (1, 2)
    assert Digits.from_config(learner.config()) == learner


def test_the_configuration_makes_an_equal_learner() -> None:
    learner = Digits.from_data([FLAT] * 3, ["x", "y", "x"], {"hidden": 8, "channels": 2})
    assert learner.classes == ("x", "y")
    assert Digits.from_config(learner.config()) == learner


@pytest.mark.parametrize(
    "change",
    [
        {"hidden": 10**9},
        {"hidden": True},
        {"channels": "16"},
        {"channels": False},
        {"channels": -1},
        {"classes": [1]},
        {"classes": [1, 1.0]},
        {"classes": [1, None]},
        {"surprise": 1},
    ],
)
def test_a_configuration_not_of_its_own_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ArtifactError, match="stored configuration"):
        Digits.from_config({**Digits().config(), **change})


def test_a_wrong_option_names_the_nearest() -> None:
    with pytest.raises(SettingsError, match="Did you mean 'hidden'"):
        Digits.from_data([FLAT] * 2, [0, 1], {"hiden": 8})
    with pytest.raises(SettingsError, match="whole number from 1"):
        Digits.from_data([FLAT] * 2, [0, 1], {"hidden": 0})


def test_data_that_holds_no_images_cannot_be_learnt_from() -> None:
    with pytest.raises(DataError, match="Row 1 has 63 numbers") as caught:
        Digits.from_data([FLAT, FLAT[:63]], [0, 1], {})
    assert caught.value.fields["row"] == 1
