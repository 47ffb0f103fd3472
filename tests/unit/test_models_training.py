"""The training loop: deterministic, within its budget, and balanced over the memory."""

from __future__ import annotations

from itertools import count

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from homeostat.errors import DataError, LearnerError
from models import Budget, Examples, FitReport
from models.objectives import held_to_before
from models.training import prior_shift, train

pytestmark = pytest.mark.usefixtures("one_thread")


def examples(rows: int = 64, seed: int = 0) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 3, generator=generator)
    return Examples(x, (x[:, 0] > 0).long())


def net() -> nn.Module:
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
    return layer


def distil(new: Tensor, old: Tensor) -> Tensor:
    return functional.mse_loss(new, old)


def fit(model: nn.Module, seed: int = 0, replay: Examples | None = None) -> FitReport:
    return train(
        model,
        examples(),
        replay,
        Budget(epochs=3, batch_size=8),
        torch.Generator().manual_seed(seed),
        objective=held_to_before(functional.cross_entropy, distil, 0.5),
    )


@pytest.mark.parametrize("replay", [None, examples(20, seed=5)])
def test_the_same_seed_gives_bitwise_the_same_weights(replay: Examples | None) -> None:
    one, two, other = nn.Linear(3, 2), net(), net()
    one.load_state_dict(two.state_dict())
    torch.manual_seed(1)
    fit(one, 7, replay)
    torch.manual_seed(2)  # torch's own generator decides nothing
    fit(two, 7, replay)
    fit(other, 8, replay)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(next(two.parameters()), next(other.parameters()))


def test_training_leaves_the_global_generator_alone() -> None:
    model = net()
    before = torch.get_rng_state()
    fit(model, replay=examples(20))
    assert torch.equal(before, torch.get_rng_state())


def test_it_agrees_with_adamw_written_out() -> None:
    """One full batch a step, against the update of Loshchilov and Hutter 2019, algorithm 2."""
    data, model = examples(), net()
    budget = Budget(epochs=4, batch_size=64, learning_rate=0.01)
    train(
        model,
        data,
        None,
        budget,
        torch.Generator().manual_seed(0),
        objective=held_to_before(functional.cross_entropy, distil, 0.5),
    )
    w = torch.zeros(2, 4, dtype=torch.float64)  # weights beside the bias
    first, second = torch.zeros_like(w), torch.zeros_like(w)
    x = torch.cat([data.x, torch.ones(64, 1)], dim=1).double()
    truth = functional.one_hot(data.y, 2).double()
    for step in range(1, 5):
        gradient = (torch.softmax(x @ w.T, dim=1) - truth).T @ x / 64
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        w = w - 0.01 * 0.01 * w
        w = w - 0.01 * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
    assert torch.allclose(model.get_parameter("weight").double(), w[:, :3], atol=1e-5)
    assert torch.allclose(model.get_parameter("bias").double(), w[:, 3], atol=1e-5)


def test_the_loss_falls() -> None:
    losses = fit(net()).losses
    assert losses[-1] < losses[0]


def test_a_training_that_time_cut_short_is_repeated_to_the_bit_by_its_steps() -> None:
    cut, again = net(), net()
    ticks = count()
    first = train(
        cut,
        examples(),
        None,
        Budget(epochs=10, seconds=12.5, batch_size=8),
        torch.Generator().manual_seed(0),
        objective=held_to_before(functional.cross_entropy, distil, 0.5),
        timer=lambda: float(next(ticks)),
    )
    second = train(
        again,
        examples(),
        None,
        Budget(epochs=10, batch_size=8, steps=first.steps),
        torch.Generator().manual_seed(0),
        objective=held_to_before(functional.cross_entropy, distil, 0.5),
    )

    assert (first.stopped, second.stopped) == ("seconds", "steps")
    assert (first.steps, first.losses) == (second.steps, second.losses)
    assert all(map(torch.equal, cut.parameters(), again.parameters()))


def test_training_ends_after_the_batch_that_crosses_the_seconds() -> None:
    ticks = count()
    report = train(
        net(),
        examples(),
        None,
        Budget(epochs=10, seconds=4.5, batch_size=8),
        torch.Generator().manual_seed(0),
        objective=held_to_before(functional.cross_entropy, distil, 0.5),
        timer=lambda: float(next(ticks)),
    )
    assert (report.stopped, report.steps, report.epochs) == ("seconds", 5, 1)


def test_a_last_batch_of_one_row_does_not_stop_batch_normalisation() -> None:
    report = train(
        nn.Sequential(nn.BatchNorm1d(3), net()),
        examples(65),
        None,
        Budget(epochs=1, batch_size=32),
        torch.Generator().manual_seed(0),
        objective=held_to_before(functional.cross_entropy, distil, 0.5),
    )
    assert report.steps == 2


def test_no_row_is_refused() -> None:
    empty = Examples(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(DataError, match="no row to learn from"):
        train(
            net(),
            empty,
            None,
            Budget(),
            torch.Generator(),
            objective=held_to_before(functional.cross_entropy, distil, 0.5),
        )


def test_a_training_that_diverges_is_an_error_not_a_version() -> None:
    with pytest.raises(LearnerError, match="diverged"):
        train(
            net(),
            examples(),
            None,
            Budget(epochs=2),
            torch.Generator(),
            objective=held_to_before(lambda out, _: out.sum() * torch.inf, distil, 0.5),
        )


def test_replayed_classes_are_equally_likely_and_fill_half_of_each_step() -> None:
    seen: list[Tensor] = []

    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        seen.append(y)
        return functional.cross_entropy(outputs, y)

    new = Examples(torch.zeros(400, 3), torch.full((400,), 2))
    old = Examples(torch.zeros(100, 3), (torch.arange(100) < 5).long())  # 95 to 5
    train(
        nn.Linear(3, 3),
        new,
        old,
        Budget(epochs=5, batch_size=16),
        torch.Generator().manual_seed(0),
        objective=held_to_before(loss, distil, 0.5),
    )
    counts = torch.bincount(torch.cat(seen), minlength=3)
    assert counts[2] == counts[0] + counts[1] == 2000
    assert 900 < counts[1] < 1100


def test_the_prior_shift_is_zero_where_the_mixture_has_the_streams_frequencies() -> None:
    balanced = Examples(torch.zeros(10, 1), torch.arange(10) % 2)
    assert torch.allclose(prior_shift(balanced, balanced, 2), torch.zeros(2), atol=1e-6)
    assert torch.equal(prior_shift(balanced, None, 2), torch.zeros(2))


def test_the_prior_shift_undoes_what_balanced_replay_does_to_a_rare_class() -> None:
    y = (torch.arange(100) < 10).long()  # one in ten
    new = Examples(torch.zeros(100, 1), y)
    memory = Examples(
        torch.zeros(20, 1),
        torch.arange(20) % 2,
        weight=torch.where(torch.arange(20) % 2 == 1, 1.0, 9.0),
    )
    shift = prior_shift(new, memory, 3)
    mixed = torch.tensor([0.5 * 0.9 + 0.25, 0.5 * 0.1 + 0.25])
    assert torch.allclose(shift[:2], torch.log(mixed) - torch.log(torch.tensor([0.9, 0.1])))
    assert shift[2] == 0  # a class of which nothing is known
