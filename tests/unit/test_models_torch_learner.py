"""What every torch learner shares: targets, scores, answers, guarding."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from homeostat.errors import DataError, InvalidLabel, InvalidRow, LearnerError
from models import Budget, Digits, Examples, Table, class_name, guarded, initialise
from models.torch_learner import find_classes


def test_a_class_has_one_name_however_it_was_read() -> None:
    names = [class_name(value) for value in (3, 3.0, "3", np.int64(3), np.float32(3))]
    assert names == ["3"] * 5
    assert [class_name(value) for value in (True, np.bool_(False), 0.5)] == ["true", "false", "0.5"]


@pytest.mark.parametrize("label", [None, math.nan, math.inf, [1], {"a": 1}])
def test_a_label_that_names_no_class_is_refused_by_its_row(label: object) -> None:
    with pytest.raises(InvalidLabel) as caught:
        Digits().targets([1, label])
    assert caught.value.fields["row"] == 1


def test_classes_are_found_in_order_and_keep_their_kind() -> None:
    assert find_classes([3, 1.0, 2, 1]) == (1, 2, 3)
    assert find_classes(["b", "a"]) == ("a", "b")


@pytest.mark.parametrize("labels", [[], ["spam", "spam"]])
def test_fewer_than_two_classes_cannot_be_learnt(labels: list[str]) -> None:
    with pytest.raises(DataError, match="needs two classes"):
        find_classes(labels)


def test_a_class_never_seen_scores_as_wrong_and_reads_back_as_unseen() -> None:
    learner = Digits(classes=("a", "b"))
    outputs = np.array([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1]], dtype=np.float32)
    assert learner.targets(["a", "a", "z"]).tolist() == [0, 0, -1]
    assert learner.score(outputs, ["a", "a", "z"]).tolist() == [0.0, 1.0, 1.0]
    again = learner.truths(learner.targets(["a", "b", "z"]))
    assert learner.targets(again).tolist() == [0, 1, -1]


def test_training_skips_classes_never_seen_and_says_how_many() -> None:
    learner = Digits()
    model = learner.build(torch.Generator().manual_seed(0))
    data = Examples(torch.zeros(6, 64), torch.tensor([0, -1, 1, -1, 2, 3]))
    report = learner.fit(model, data, data, Budget(epochs=1), torch.Generator())
    assert report.skipped == 2
    unseen = Examples(torch.zeros(2, 64), torch.tensor([-1, -1]))
    with pytest.raises(DataError, match="None of the 2 rows"):
        learner.fit(model, unseen, None, Budget(epochs=1), torch.Generator())


def test_answers_carry_the_class_as_the_labels_had_it() -> None:
    outputs = np.array([[0.25, 0.75]], dtype=np.float32)
    answer = {"prediction": "b", "confidence": 0.75}
    assert Digits(classes=("a", "b")).answers(outputs) == [answer]
    value = np.array([[2.5]], dtype=np.float32)
    assert Table(task="regression").answers(value) == [{"prediction": 2.5}]


def test_a_regressions_loss_is_the_clipped_error_in_its_scale() -> None:
    learner = Table(task="regression", scale=10.0)
    outputs = np.array([[0.0], [5.0], [100.0]], dtype=np.float32)
    assert learner.score(outputs, [0.0, 0, -3]).tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("label", [math.nan, math.inf, "3", True, None, 10**400, 1e39])
def test_a_regression_refuses_what_is_no_finite_number(label: object) -> None:
    with pytest.raises(InvalidLabel) as caught:
        Table(task="regression").targets([1.0, label])
    assert caught.value.fields["row"] == 1


def test_a_learner_that_raises_becomes_a_learner_error_with_its_cause() -> None:
    def broken(row: int) -> int:
        return row // 0

    with pytest.raises(LearnerError, match="ZeroDivisionError") as caught:
        guarded(broken, 1)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_typed_error_passes_the_guard_as_it_is() -> None:
    with pytest.raises(InvalidRow):
        guarded(Digits().encode, ["nonsense"])


def test_initialise_decides_every_weight_and_refuses_what_it_does_not_know() -> None:
    def build(seed: int) -> nn.Module:
        layers = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Embedding(5, 3, padding_idx=2))
        return initialise(layers, torch.Generator().manual_seed(seed))

    one, two, other = build(0), build(0), build(1)
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, two.state_dict()[name])
    assert not torch.equal(one.get_parameter("0.weight"), other.get_parameter("0.weight"))
    assert not one.get_parameter("2.weight")[2].any()
    with pytest.raises(LearnerError, match="GRU"):
        initialise(nn.GRU(2, 2), torch.Generator())
