"""A model is judged by its learner's loss, and a learner that breaks its word is caught."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from homeostat.errors import DataError, LearnerError
from models import Digits, Label, evaluate, predict
from models.learner import Floats


class Broken(Digits):
    """Gives what the test says instead of outputs or losses."""

    def __init__(self, outputs: object = None, losses: object = None) -> None:
        super().__init__()
        object.__setattr__(self, "given", (outputs, losses))

    def predict(self, model: nn.Module, batch: Tensor) -> NDArray[np.float32]:
        outputs = self.__dict__["given"][0]
        return super().predict(model, batch) if outputs is None else np.asarray(outputs)

    def score(self, outputs: NDArray[np.float32], labels: list[Label]) -> Floats:  # type: ignore[override]  # a broken learner
        losses = self.__dict__["given"][1]
        return super().score(outputs, labels) if losses is None else np.asarray(losses)


X = torch.zeros(3, 64)
MODEL = Digits().build(torch.Generator().manual_seed(0))


def test_labels_may_come_as_json_or_encoded() -> None:
    learner = Digits()
    outputs = learner.predict(MODEL, X)
    right = int(outputs[0].argmax())
    wrong = (right + 1) % 10
    one = evaluate(learner, MODEL, X, [right, wrong, "unheard of"])
    two = evaluate(learner, MODEL, X, torch.tensor([right, wrong, -1]))
    for each in (one, two):
        assert each.losses.tolist() == [0.0, 1.0, 1.0]
        assert each.accuracy == pytest.approx(1 / 3)
        assert np.array_equal(each.outputs, outputs)


def test_many_rows_are_judged_like_few() -> None:
    x = torch.rand(2500, 64, generator=torch.Generator().manual_seed(0)) * 16
    assert evaluate(Digits(), MODEL, x, [0] * 2500).outputs.shape == (2500, 10)


def test_no_row_is_refused() -> None:
    with pytest.raises(DataError, match="no row to judge by"):
        evaluate(Digits(), MODEL, X[:0], [])


@pytest.mark.parametrize(
    "outputs", [np.zeros((2, 10)), np.zeros(3), np.full((3, 10), np.nan), np.full((3, 1), "a")]
)
def test_outputs_that_break_the_contract_are_a_learner_error(outputs: object) -> None:
    with pytest.raises(LearnerError):
        predict(Broken(outputs=outputs), MODEL, X)


@pytest.mark.parametrize("losses", [[0, 0], [0, 0, 2], [0, 0, np.nan], [-1, 0, 0], ["a", "b", "c"]])
def test_losses_that_break_the_contract_are_a_learner_error(losses: object) -> None:
    with pytest.raises(LearnerError):
        evaluate(Broken(losses=losses), MODEL, X, [0, 0, 0])
