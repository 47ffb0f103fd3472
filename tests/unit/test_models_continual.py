"""Replay keeps the old regime where plain fine-tuning loses it; the champion is untouched."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from homeostat.errors import DataError, LearnerError, SettingsError
from models import (
    Budget,
    Digits,
    Examples,
    FitReport,
    Memory,
    Table,
    evaluate,
    read_dataset,
    retrain,
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class World:
    """A champion of upright digits, and the same handwriting slanted."""

    learner: Digits
    champion: nn.Module
    memory: Memory
    new: Examples
    old_held: Examples
    new_held: Examples

    def accuracies(self, model: nn.Module) -> tuple[float, float]:
        old, new = self.old_held, self.new_held
        return (
            evaluate(self.learner, model, old.x, old.y).accuracy,
            evaluate(self.learner, model, new.x, new.y).accuracy,
        )


def slanted(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Images (N, 64) sheared by 0.6 pixels a row."""
    out = np.zeros_like(pixels).reshape(-1, 8, 8)
    columns = np.arange(8.0)
    for index, image in enumerate(pixels.reshape(-1, 8, 8)):
        for row in range(8):
            source = columns + 0.6 * (3.5 - row)
            out[index, row] = np.interp(source, columns, image[row], left=0.0, right=0.0)
    return out.reshape(-1, 64)


@pytest.fixture(scope="module")
def world() -> World:
    data = read_dataset("builtin:digits", "")
    order = np.random.default_rng(0).permutation(len(data))
    pixels = np.array(data.rows)[order]
    digits = [data.labels[index] for index in order]
    learner = Digits.from_data(data.rows, data.labels, {})

    def examples(images: NDArray[np.float64], rows: slice) -> Examples:
        return Examples(learner.encode(images[rows].tolist()), learner.targets(digits[rows]))

    taught = examples(pixels, slice(0, 800))
    champion = learner.build(torch.Generator().manual_seed(0))
    learner.fit(champion, taught, None, Budget(epochs=20), torch.Generator().manual_seed(0))
    memory = Memory(600, 0)
    memory.add(taught)
    slant = slanted(pixels)
    return World(
        learner,
        champion,
        memory,
        examples(slant, slice(800, 1100)),
        examples(pixels, slice(1100, None)),
        examples(slant, slice(1100, None)),
    )


BUDGET = Budget(epochs=15)


def test_replay_keeps_the_old_regime_where_fine_tuning_loses_it(world: World) -> None:
    before_old, before_new = world.accuracies(world.champion)
    assert before_old > 0.95
    assert before_new < before_old - 0.2
    naive, _ = retrain(world.learner, world.champion, world.new, None, "fine-tune", BUDGET, seed=0)
    replayed, _ = retrain(
        world.learner, world.champion, world.new, world.memory, "replay", BUDGET, seed=0
    )
    naive_old, naive_new = world.accuracies(naive)
    replay_old, replay_new = world.accuracies(replayed)
    assert naive_new > 0.9
    assert naive_old < before_old - 0.08
    assert replay_new > 0.9
    assert replay_old > before_old - 0.02


@pytest.mark.parametrize("strategy", ["replay", "fine-tune"])
def test_the_champion_is_untouched_and_the_seed_decides_every_bit(
    world: World, strategy: str
) -> None:
    before = copy.deepcopy(world.champion.state_dict())
    budget = Budget(epochs=1)
    one, two, other = (
        retrain(world.learner, world.champion, world.new, world.memory, strategy, budget, seed)[0]
        for seed in (3, 3, 4)
    )
    for name, weight in world.champion.state_dict().items():
        assert torch.equal(weight, before[name])
        assert torch.equal(one.state_dict()[name], two.state_dict()[name])
    assert any(not torch.equal(one.state_dict()[name], other.state_dict()[name]) for name in before)


def test_replay_without_a_memory_is_refused(world: World) -> None:
    for memory in (None, Memory(10, 0)):
        with pytest.raises(DataError, match="what was learnt would be lost"):
            retrain(world.learner, world.champion, world.new, memory, "replay", BUDGET, seed=0)


def test_an_unknown_strategy_is_refused_with_those_known(world: World) -> None:
    with pytest.raises(SettingsError, match="replay, fine-tune"):
        retrain(world.learner, world.champion, world.new, None, "rehearse", BUDGET, seed=0)


def test_a_learner_that_fails_to_train_is_a_learner_error(world: World) -> None:
    class Failing(Digits):
        def fit(self, *_: object) -> FitReport:
            raise RuntimeError("out of luck")

    with pytest.raises(LearnerError, match="out of luck"):
        retrain(Failing(), world.champion, world.new, None, "fine-tune", BUDGET, seed=0)


def rare(rows: int, seed: int, shift: float) -> tuple[list[dict[str, float]], list[int]]:
    """One positive in twenty; `shift` moves a column for all."""
    rng = np.random.default_rng(seed)
    truths = (rng.random(rows) < 0.05).astype(int)
    size = rng.normal(size=rows) + 1.5 * truths + shift
    age = 2 * rng.normal(size=rows) - 2 * truths
    found = [{"size": float(s), "age": float(a)} for s, a in zip(size, age, strict=True)]
    return found, truths.tolist()


def test_balanced_replay_does_not_make_a_rare_class_look_frequent() -> None:
    rows, truths = rare(2000, 0, 0.0)
    learner = Table.from_data(rows, truths, {})
    champion = learner.build(torch.Generator().manual_seed(0))
    taught = Examples(learner.encode(rows), learner.targets(truths))
    learner.fit(champion, taught, None, Budget(epochs=8), torch.Generator().manual_seed(0))
    memory = Memory(200, 0)
    memory.add(taught)
    assert 0.4 < float((memory.examples().y == 1).float().mean()) < 0.6
    rows, truths = rare(400, 1, 1.0)
    new = Examples(learner.encode(rows), learner.targets(truths))
    candidate, _ = retrain(learner, champion, new, memory, "replay", BUDGET, seed=0)
    held, truths = rare(2000, 2, 1.0)
    outputs = evaluate(learner, candidate, learner.encode(held), truths).outputs
    assert 0.02 < outputs[:, 1].mean() < 0.11
