"""A small net by numpy answers few rows as torch does, and no other net is taken for one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flows.golden import golden
from models.digits import PIXELS, Digits, DigitsNet
from models.learner import Label, Learner, Row
from models.plain import FEW, perceptron
from models.table import Table
from models.torch_learner import TorchLearner
from monitoring.profile import Profile
from serving.runtime import Loaded, quickened

COLOURS = ("red", "green", "blue", None)


def drawn(learner: TorchLearner, seed: int = 0) -> nn.Module:
    """A net with weights of its own."""
    return learner.build(torch.Generator().manual_seed(seed)).eval()


def table(labels: list[Label]) -> tuple[Table, list[Row]]:
    """A table of numbers and categories, some missing, and one number that is huge."""
    rng = np.random.default_rng(3)
    rows: list[Row] = [
        {
            "a": None if n % 7 == 0 else float(rng.normal()),
            "b": 1e30 if n % 11 == 0 else float(rng.normal()),
            "colour": COLOURS[n % 4],
        }
        for n in range(len(labels))
    ]
    return Table.from_data(rows, labels, {"hidden": 16}), rows


def differ(learner: TorchLearner, x: Tensor) -> float:
    """How far apart the two ways are at most, relative to the size of the answers."""
    module = drawn(learner)
    quick = learner.quick(module)
    assert quick is not None
    slow = learner.predict(module, x)
    return float(np.abs(quick(x.numpy()) - slow).max() / max(1.0, float(np.abs(slow).max())))


@pytest.mark.parametrize("rows", [1, 2, FEW])
def test_a_perceptron_over_digits_answers_as_torch_does(rows: int) -> None:
    pixels = torch.rand(rows, PIXELS, generator=torch.Generator().manual_seed(1)) * 16
    assert differ(Digits(channels=0), pixels) < 1e-6


@pytest.mark.parametrize("labels", [["x", "y", "z"] * 9, [0.5 * n * n for n in range(27)]])
def test_a_table_answers_as_torch_does_whatever_is_missing_unknown_or_huge(
    labels: list[Label],
) -> None:
    learner, rows = table(labels)
    strange: list[Row] = [{"a": None, "b": None, "colour": "mauve"}]
    assert differ(learner, learner.encode([*rows[:15], *strange])) < 1e-6


def test_what_is_no_small_perceptron_goes_by_torch() -> None:
    digits = Digits()  # with convolutions
    assert digits.quick(drawn(digits)) is None
    assert perceptron(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))) is None
    assert perceptron(nn.Sequential(nn.ReLU(), nn.Linear(4, 2))) is None
    assert perceptron(nn.Sequential(nn.Linear(4, 2, bias=False))) is None
    assert perceptron(nn.Sequential(nn.Linear(128, 128))) is None
    assert perceptron(nn.Sequential()) is None


class Doubting(Digits):
    """Its answers are its own, so the quick way of its parent is none of it."""

    def predict(self, model: nn.Module, batch: Tensor) -> NDArray[np.float32]:
        """Half as sure."""
        return np.asarray(super().predict(model, batch) / 2, dtype=np.float32)


class Reversed(DigitsNet):
    """A net with another `forward` than the one that it inherits `plain` of."""

    def forward(self, pixels: Tensor) -> Tensor:
        """The classes the other way round."""
        return super().forward(pixels).flip(1)


def loaded(learner: Learner, module: nn.Module) -> Loaded:
    """A version of that net."""
    x = torch.rand(32, PIXELS, generator=torch.Generator().manual_seed(2)) * 16
    outputs = learner.predict(module, x)
    confidence, found = learner.confidence(outputs), learner.predicted(outputs)
    profile = Profile.from_reference(
        learner.features, learner.task, learner.observe(x), found, confidence, confidence
    )
    return Loaded("digits", 1, "d", learner, module, profile, "same")


def test_a_version_takes_its_quick_way_where_the_golden_rows_come_out_alike(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows: list[Row] = [[float(n % 17)] * PIXELS for n in range(8)]
    learner = Digits(channels=0)
    module = drawn(learner)
    version = quickened(loaded(learner, module), golden(learner, module, rows))
    assert version.quick is not None

    x = learner.encode(rows)
    slow = replace(version, quick=None).predict(x)
    assert np.allclose(version.predict(x), slow, atol=1e-6)
    many = learner.encode(rows * (FEW // len(rows) + 1))
    assert (version.predict(many) == replace(version, quick=None).predict(many)).all()

    other = Reversed(10, 0, 64).eval()
    kept = quickened(loaded(learner, other), golden(learner, other, rows))
    assert kept.quick is None
    assert "go by torch" in caplog.text
    doubting = Doubting(channels=0)
    kept = quickened(loaded(doubting, module), golden(doubting, module, rows))
    assert kept.quick is None
