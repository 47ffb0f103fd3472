"""Classes never seen before: which are taken up, and a head that has room for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import pytest
import torch
from torch import nn

from homeostat.errors import InvalidLabel, LearnerError
from models import Digits, Label, Row, Table, Text, TorchLearner, initialise

SHOWN = [[float((place * image) % 17) for place in range(64)] for image in range(40)]
ROWS: list[Row] = [{"age": 20 + n, "town": ("Ulm", "Bonn", None)[n % 3]} for n in range(30)]
TEXTS: list[Row] = [{"text": f"the {n}th of {n * n} words"} for n in range(30)]
LEARNERS: list[tuple[TorchLearner, list[Row]]] = [
    (Digits(classes=(0, 1, 2), channels=2, hidden=8), list(SHOWN)),
    (Digits(classes=(0, 1, 2), channels=0, hidden=8), list(SHOWN)),
    (Table.from_data(ROWS, [n % 3 for n in range(30)], {"hidden": 8}), ROWS),
    (Text.from_data(TEXTS, [n % 3 for n in range(30)], {"hidden": 8, "buckets": 64}), TEXTS),
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("learner", "rows"), LEARNERS)
def test_new_classes_stand_after_the_known_ones(learner: TorchLearner, rows: list[Row]) -> None:
    grown = learner.grown([9, 0, 7, 9])
    assert grown.classes == (0, 1, 2, 7, 9)
    assert grown.targets([0, 9, 3]).tolist() == [0, 4, -1]
    assert type(grown).from_config(grown.config()) == grown
    assert torch.equal(grown.encode(rows).nan_to_num(-1), learner.encode(rows).nan_to_num(-1))


@pytest.mark.parametrize(("learner", "rows"), LEARNERS)
def test_a_grown_model_says_of_known_classes_what_it_said_and_little_of_new_ones(
    learner: TorchLearner, rows: list[Row]
) -> None:
    module, grown = learner.build(seeded(3)).eval(), learner.grown([7, 9])
    wide = learner.grow(module, grown, seeded(4)).eval()
    with torch.no_grad():
        before, after = module(learner.encode(rows)), wide(learner.encode(rows))
    assert after.shape == (len(rows), 5)
    assert torch.allclose(after[:, :3], before, atol=1e-5)
    assert (after[:, 3:] < before.mean(dim=1, keepdim=True)).all()


@pytest.mark.parametrize("learner", [learner for learner, _ in LEARNERS])
def test_what_was_learnt_is_kept_bit_for_bit(learner: TorchLearner) -> None:
    module, grown = learner.build(seeded(3)), learner.grown([7, 9])
    kept = {name: weight.clone() for name, weight in module.state_dict().items()}
    wide = learner.grow(module, grown, seeded(4)).state_dict()
    assert wide.keys() == kept.keys()
    for name, weight in kept.items():
        assert torch.equal(wide[name][: len(weight)], weight)
        assert torch.equal(module.state_dict()[name], weight)
    assert sum(len(wide[name]) - len(weight) for name, weight in kept.items()) == 2 * 2


def test_a_class_needs_enough_labels() -> None:
    learner = Digits(classes=(0, 1))
    assert learner.grown([5] * 3 + [6] * 2, least=3).classes == (0, 1, 5)
    assert learner.grown(["5", 5, 5.0], least=3).classes == (0, 1, 5)


def test_where_nothing_is_new_it_is_the_same_learner() -> None:
    learner = Digits(classes=(0, 1))
    assert learner.grown([0, 1, "1", 5], least=2) is learner
    assert Table(task="regression").grown([1.5, 2.5]).classes == ()


@pytest.mark.parametrize(
    ("classes", "labels", "wanted"),
    [
        ((0, 1), ["two", "3", 4.5, "05", True, -2], (0, 1, -2, 3)),
        (("a", "b"), [3, "c", True], ("a", "b", "3", "c", "true")),
        ((False, True), ["maybe", 3], (False, True)),
        ((0.5, 1), ["c", 2.5], (0.5, 1, 2.5, "c")),
    ],
)
def test_known_classes_decide_of_which_kind_new_ones_are(
    classes: tuple[Label, ...], labels: list[Label], wanted: tuple[Label, ...]
) -> None:
    learner = Digits(classes=classes)
    grown = learner.grown(labels)
    assert grown.classes == wanted
    assert [type(one) for one in grown.classes] == [type(one) for one in wanted]
    assert grown.outputs == learner.outputs


def test_what_is_no_label_at_all_is_refused() -> None:
    with pytest.raises(InvalidLabel):
        Digits().grown([0, None])


def test_beyond_a_learners_own_limit_nothing_is_taken_up() -> None:
    learner = Digits(classes=tuple(range(1000)))
    assert learner.grown([1000]) is learner


def test_a_learner_extends_those_whose_classes_come_first_in_its_own() -> None:
    learner = Digits(classes=(0, 1))
    assert learner.extends(Digits(classes=(0, 1)))
    assert learner.grown([5]).extends(learner)
    assert not learner.extends(learner.grown([5]))
    assert not Digits(classes=(0, 2, 1)).extends(learner)
    assert not Digits(classes=(0, 1, 5), hidden=8).extends(learner)
    assert not Table(classes=(0, 1, 5)).extends(learner)
    assert not Table(task="regression", scale=2.0).extends(Table(task="regression"))


@dataclass(frozen=True)
class Prototypes(Table):
    """A learner with a net of its own, whose hidden layer is as wide as there are classes."""

    def build(self, generator: torch.Generator) -> nn.Module:
        wide = len(self.classes)
        return initialise(nn.Sequential(nn.Linear(2, wide), nn.Linear(wide, wide)), generator)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        return cls(classes=tuple(config["classes"]))

    @classmethod
    def from_data(
        cls, rows: Sequence[Row], labels: Sequence[Label], options: Mapping[str, Any]
    ) -> Self:
        raise NotImplementedError


def test_a_net_that_differs_in_more_than_its_last_layer_is_refused() -> None:
    learner = Prototypes(classes=("a", "b"))
    grown = learner.grown(["c"])
    with pytest.raises(LearnerError, match="more classes"):
        learner.grow(learner.build(seeded()), grown, seeded())
