"""What each strategy does with new rows, a memory and the champion that it starts from."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import cast, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from homeostat.errors import DataError, SettingsError
from homeostat.policy import RetrainPolicy
from models import STRATEGIES, Budget, Digits, Examples, Learner, Memory, Table, retrain
from models.objectives import Ground, Step
from models.strategies.der_plus_plus import ALPHA, dark
from models.strategies.distillation import without_forgetting
from models.strategies.er_ace import asymmetric
from models.strategies.ewc import fisher_diagonal, penalty
from models.strategies.head_only import head_of
from models.strategies.weight_averaging import average

pytestmark = pytest.mark.usefixtures("one_thread")

# `prototypes` is for heads of another kind: test_models_prototypes.py.
BY_STEPS = [name for name in STRATEGIES if name != "prototypes"]
READS_MEMORY = sorted(set(BY_STEPS) - {"fine-tune", "distillation", "renewal"})


LEARNER = Digits(classes=(0, 1, 2, 3), channels=0, hidden=8)


def rows(classes: tuple[int, ...], count: int = 40, seed: int = 0) -> Examples:
    """Images whose first pixels are inked where the class says."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.tensor(classes)[torch.arange(count) % len(classes)]
    x = 4.0 * torch.rand(count, 64, generator=generator)
    x[torch.arange(count), y] = 16.0
    return Examples(x, y)


def champion() -> nn.Module:
    return LEARNER.build(torch.Generator().manual_seed(0))


def memory(examples: Examples) -> Memory:
    kept = Memory(30, 0)
    kept.add(examples)
    return kept


def ground(model: nn.Module, data: Examples) -> Ground:
    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, y)

    def distil(outputs: Tensor, before: Tensor) -> Tensor:
        return functional.l1_loss(outputs, before)

    generator = torch.Generator().manual_seed(0)
    return Ground(model, data, None, loss, loss, distil, 1.0, generator)


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(map(torch.equal, one.parameters(), other.parameters()))


def test_the_policy_offers_every_strategy_and_no_other() -> None:
    offered = get_args(RetrainPolicy.model_fields["strategy"].annotation)
    assert offered == (*STRATEGIES, "auto")


@pytest.mark.parametrize("strategy", BY_STEPS)
def test_the_seed_decides_every_bit_and_the_champion_stays(strategy: str) -> None:
    before, untouched = champion(), champion()
    kept, budget = memory(rows((0, 1))), Budget(epochs=2)
    one, two, other = (
        retrain(LEARNER, before, rows((2, 3), seed=1), kept, strategy, budget, seed)[0]
        for seed in (3, 3, 4)
    )
    assert same(before, untouched)
    assert same(one, two)
    assert not same(one, other)
    assert len(kept) == 30


@pytest.mark.parametrize("strategy", READS_MEMORY)
def test_a_strategy_that_reads_the_memory_is_refused_without_one(strategy: str) -> None:
    for kept in (None, Memory(10, 0)):
        with pytest.raises(DataError, match="what was learnt would be lost"):
            retrain(LEARNER, champion(), rows((2, 3)), kept, strategy, Budget(), seed=0)


@pytest.mark.parametrize("strategy", ["fine-tune", "distillation"])
def test_a_strategy_without_a_memory_does_not_read_the_one_given(strategy: str) -> None:
    new, budget = rows((2, 3)), Budget(epochs=2)
    with_one, without = (
        retrain(LEARNER, champion(), new, kept, strategy, budget, seed=0)[0]
        for kept in (memory(rows((0, 1))), None)
    )
    assert same(with_one, without)


@pytest.mark.parametrize("strategy", BY_STEPS)
def test_values_are_learnt_by_every_strategy(strategy: str) -> None:
    inputs = [{"a": float(value % 7), "b": float(value % 3)} for value in range(60)]
    truths = [row["a"] - 2.0 * row["b"] + 0.25 for row in inputs]
    learner = Table.from_data(inputs, truths, {})
    data = Examples(learner.encode(inputs), learner.targets(truths))
    model = learner.build(torch.Generator().manual_seed(0))
    _, report = retrain(learner, model, data, memory(data), strategy, Budget(epochs=12), seed=0)
    assert report.losses[-1] < report.losses[0]


@pytest.mark.parametrize("strategy", ["er-ace", "der++", "distillation", "ewc"])
def test_a_learner_with_a_loop_of_its_own_is_told_which_strategies_it_can_use(
    strategy: str,
) -> None:
    class Own:
        """A learner as far as this is concerned."""

    learner, kept = cast(Learner, Own()), memory(rows((0, 1)))
    with pytest.raises(SettingsError, match="Own trains by a loop of its own") as refused:
        retrain(learner, champion(), rows((2, 3)), kept, strategy, Budget(), seed=0)
    assert "replay, fine-tune or weight-averaging" in str(refused.value.remedy)


def test_er_ace_lets_new_rows_push_their_own_classes_only() -> None:
    outputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = torch.tensor([2, 3, 2, 0, 1, 0])  # three new rows, then three replayed ones
    step = Step(outputs, y, torch.arange(3), torch.zeros(3, 4))
    torch.autograd.backward(asymmetric(ground(champion(), rows((2, 3))))(step))
    assert outputs.grad is not None
    assert torch.equal(outputs.grad[:3, :2], torch.zeros(3, 2))
    assert bool((outputs.grad[:3, 2:] != 0).all())
    assert bool((outputs.grad[3:] != 0).all())


def test_er_ace_is_plain_cross_entropy_where_the_new_rows_have_every_class() -> None:
    outputs = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 1, 1, 0, 1, 0])
    step = Step(outputs, y, torch.arange(4), torch.zeros(2, 2))
    found = asymmetric(ground(champion(), rows((0, 1))))(step)
    assert torch.isclose(found, functional.cross_entropy(outputs, y))


def test_der_holds_raw_outputs_of_the_replayed_rows_to_those_stored() -> None:
    outputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([2, 3, 2, 0, 1, 0])
    objective = dark(ground(champion(), rows((2, 3))))
    as_stored = objective(Step(outputs, y, torch.arange(3), outputs[3:]))
    off_by_two = objective(Step(outputs, y, torch.arange(3), outputs[3:] + 2.0))
    assert torch.isclose(as_stored, functional.cross_entropy(outputs, y))
    assert torch.isclose(off_by_two - as_stored, torch.tensor(ALPHA * 4.0))


def test_distillation_holds_each_new_row_to_what_the_champion_said_of_it() -> None:
    model, data = champion(), rows((2, 3))
    objective = without_forgetting(ground(model, data))
    chosen = torch.tensor([5, 0, 7])
    outputs = model(data.x[chosen]).detach()
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()  # what it said before counts, not what it says now
    y = data.y[chosen]
    unmoved = objective(Step(outputs, y, chosen, outputs[:0]))
    moved = objective(Step(outputs + 3.0, y, chosen, outputs[:0]))
    assert torch.isclose(unmoved, functional.cross_entropy(outputs, y))
    assert torch.isclose(moved - unmoved, torch.tensor(3.0), atol=1e-5)


def test_ewc_holds_nothing_back_at_the_champion_and_grows_with_the_square_of_the_way() -> None:
    model = champion()
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    fisher = fisher_diagonal(model, rows((0, 1)), 1.0, torch.Generator().manual_seed(0))
    assert penalty(model, before, fisher) == 0.0
    found = []
    for way in (0.1, 0.2):
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for weight in moved.parameters():
                weight.add_(way)
        found.append(penalty(moved, before, fisher))
    assert found[0] > 0
    assert torch.isclose(found[1], 4 * found[0], rtol=1e-3)


def test_the_fisher_information_of_a_softmax_agrees_with_its_closed_form() -> None:
    """For logits w_c x + b_c that of b_c is the mean of p_c (1 - p_c)."""
    model = nn.Linear(1, 3)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.copy_(torch.tensor([0.0, 0.5, -1.0]))
    data = Examples(torch.ones(4000, 1), torch.zeros(4000, dtype=torch.int64))
    fisher = fisher_diagonal(model, data, 1.0, torch.Generator().manual_seed(0))
    chance = torch.softmax(model.bias.detach(), dim=0)
    assert torch.allclose(fisher["bias"], chance * (1 - chance), atol=0.02)
    assert torch.allclose(fisher["weight"][:, 0], fisher["bias"])


def test_the_fisher_information_of_values_is_in_units_of_the_scale() -> None:
    model = nn.Linear(1, 1)
    data = Examples(torch.full((5, 1), 3.0), torch.zeros(5))
    fisher = fisher_diagonal(model, data, 2.0, torch.Generator())
    assert math.isclose(float(fisher["weight"]), (3.0 / 2.0) ** 2, rel_tol=1e-6)


def test_a_heavier_fisher_keeps_the_weights_nearer_to_the_champion() -> None:
    before = champion()
    kept, new, budget = memory(rows((0, 1))), rows((2, 3), seed=1), Budget(epochs=5)
    held, free = (
        retrain(LEARNER, before, new, kept, strategy, budget, seed=0)[0]
        for strategy in ("ewc", "fine-tune")
    )

    def way(model: nn.Module) -> float:
        pairs = zip(model.parameters(), before.parameters(), strict=True)
        return sum(float(((a - b) ** 2).sum().detach()) for a, b in pairs)

    assert way(held) < way(free)


@pytest.mark.parametrize(("alpha", "expected"), [(0.0, 1.0), (0.25, 1.5), (1.0, 3.0)])
def test_averaging_goes_from_the_champion_at_0_to_the_candidate_at_1(
    alpha: float, expected: float
) -> None:
    def filled(value: float) -> nn.Module:
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        for tensor in model.state_dict().values():
            tensor.fill_(value)
        return model

    before, candidate = filled(1.0), filled(3.0)
    average(before, candidate, alpha)
    for name, tensor in candidate.state_dict().items():
        counter = name.endswith("num_batches_tracked")
        assert bool((tensor == (3 if counter else expected)).all()), name


def test_weight_averaging_is_half_way_to_what_replay_alone_gives() -> None:
    before, kept, new = champion(), memory(rows((0, 1))), rows((2, 3), seed=1)
    averaged, replayed = (
        retrain(LEARNER, before, new, kept, strategy, Budget(epochs=2), seed=0)[0]
        for strategy in ("weight-averaging", "replay")
    )
    three = zip(averaged.parameters(), before.parameters(), replayed.parameters(), strict=True)
    assert all(torch.equal(a, 0.5 * b + 0.5 * c) for a, b, c in three)


def renewed(before: nn.Module, new: Examples, kept: Memory | None = None) -> nn.Module:
    return retrain(
        LEARNER, before, new, kept, "renewal", Budget(epochs=40, learning_rate=0.02), seed=0
    )[0]


def fitted(model: nn.Module, new: Examples, state: Tensor) -> nn.Module:
    generator = torch.Generator()
    generator.set_state(state)
    LEARNER.fit(model, new, None, Budget(epochs=40, learning_rate=0.02), generator)
    return model


def test_renewal_goes_on_where_the_champion_knows_the_new_rows_already() -> None:
    before, new = champion(), rows((0, 1), seed=1)
    generator = torch.Generator().manual_seed(0)
    LEARNER.fit(before, rows((0, 1), 200), None, Budget(epochs=30), generator)
    begun = torch.Generator().manual_seed(0).get_state()
    assert same(renewed(before, new), fitted(copy.deepcopy(before), new, begun))


def test_renewal_begins_anew_where_the_champion_is_a_bad_place_to_go_on_from() -> None:
    before, new = champion(), rows((0, 1), 100, seed=1)
    with torch.no_grad():
        for weights in before.parameters():
            weights.fill_(0.0)  # dead: no step changes what it says of one row beside another
    generator = torch.Generator().manual_seed(0)
    fresh = LEARNER.build(generator)
    assert same(renewed(before, new), fitted(fresh, new, generator.get_state()))


def test_renewal_reads_the_memory_of_its_own_regime_alone() -> None:
    new = dataclasses.replace(rows((0, 1), seed=1), regime=torch.full((40,), 3))
    other = dataclasses.replace(rows((1, 0), seed=2), regime=torch.full((40,), 2))
    assert same(renewed(champion(), new, memory(other)), renewed(champion(), new))


def test_the_head_alone_moves_and_the_rest_stays_bit_for_bit() -> None:
    before, kept, new = champion(), memory(rows((0, 1))), rows((2, 3), seed=1)
    after, _ = retrain(LEARNER, before, new, kept, "head-only", Budget(epochs=2), seed=0)
    moved = {
        name
        for (name, old), weight in zip(before.named_parameters(), after.parameters(), strict=True)
        if not torch.equal(old, weight)
    }
    assert moved == {"layers.2.weight", "layers.2.bias"}
    assert all(weight.requires_grad for weight in after.parameters())


def test_statistics_below_the_head_are_frozen_too() -> None:
    body = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
    kept, new = memory(rows((0, 1))), rows((2, 3), seed=1)
    after, _ = retrain(LEARNER, body, new, kept, "head-only", Budget(epochs=2), seed=0)
    buffers = zip(body.buffers(), after.buffers(), strict=True)
    assert all(torch.equal(one, other) for one, other in buffers)


def test_a_module_without_a_head_is_refused() -> None:
    with pytest.raises(SettingsError, match="no linear layer for a head"):
        head_of(nn.Conv1d(1, 1, 1))


def test_averaged_replay_ends_as_the_mean_of_the_steps_that_replay_takes() -> None:
    """By the docstring's recursion over the weights that replay has after 1, 2 and 3 steps."""
    before, kept, new = champion(), memory(rows((0, 1))), rows((2, 3), seed=1)

    def after(strategy: str, steps: int) -> Tensor:
        budget = Budget(epochs=9, steps=steps, learning_rate=0.05)
        trained, _ = retrain(LEARNER, before, new, kept, strategy, budget, 0)
        return torch.cat([weight.detach().flatten() for weight in trained.parameters()])

    mean = torch.cat([weight.detach().flatten() for weight in before.parameters()])
    for steps in (1, 2, 3):
        mean = torch.lerp(mean, after("replay", steps), 1.0 - steps / (steps + 10))
    assert torch.allclose(after("averaged-replay", 3), mean, atol=1e-6)
    assert not torch.allclose(after("replay", 3), mean, atol=1e-3)
