"""A training that was killed at any step goes on from its checkpoint, to the same bits."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models import Budget, Digits, Examples, FitReport, Memory, retrain
from models.checkpoint import Checkpoint
from models.objectives import Objective, Step, held_to_before
from models.settling import LEAST, has_settled, part
from models.training import train

pytestmark = pytest.mark.usefixtures("one_thread")

LEARNER = Digits(channels=2, hidden=8)


class Killed(BaseException):
    """No error that anything catches, as a kill is none."""


def rows(count: int = 40, seed: int = 0) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 17, (count, 64), generator=generator).float()
    return Examples(x, torch.randint(0, 10, (count,), generator=generator))


def net() -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    return nn.Sequential(nn.BatchNorm1d(64), LEARNER.build(generator))


def plain(outputs: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, y)


def distil(new: Tensor, old: Tensor) -> Tensor:
    return functional.mse_loss(new, old)


def dying(at: int) -> Objective:
    """The objective, and an end at the step `at` of this process."""
    usual, steps = held_to_before(plain, distil, 0.5), [0]

    def objective(step: Step) -> Tensor:
        steps[0] += 1
        if steps[0] == at:
            raise Killed
        return usual(step)

    return objective


def fit(
    model: nn.Module,
    replay: Examples | None,
    budget: Budget,
    objective: Objective,
    watch: Callable[[nn.Module], float] | None = None,
) -> FitReport:
    generator = torch.Generator().manual_seed(3)
    return train(model, rows(), replay, budget, generator, objective=objective, watch=watch)


def size(model: nn.Module) -> float:
    """Some figure of the weights."""
    return float(sum(weight.detach().abs().sum() for weight in model.parameters()))


def bits(model: nn.Module) -> list[bytes]:
    return [weight.contiguous().numpy().tobytes() for weight in model.state_dict().values()]


@pytest.mark.parametrize("replay", [None, rows(20, seed=5)])
def test_a_training_killed_at_each_step_in_turn_ends_with_the_same_bits(
    tmp_path: Path, replay: Examples | None
) -> None:
    budget = Budget(epochs=3, batch_size=16, patience=50)
    whole, again = net(), net()
    told = fit(whole, replay, budget, dying(-1), size)

    for _ in range(told.steps):  # each process is killed in its second step
        again = net()
        kept = dataclasses.replace(budget, checkpoint=Checkpoint(tmp_path, every=0.0))
        try:
            last = fit(again, replay, kept, dying(2), size)
        except Killed:
            continue
        break
    assert last.resumed_at == told.steps - 1
    assert bits(again) == bits(whole)
    same = dataclasses.replace(told, seconds=0.0)
    assert same == dataclasses.replace(last, seconds=0.0, resumed_at=0, cpu_before=0.0)
    assert last.cpu_before > 0


def test_a_training_that_had_ended_is_not_made_again(tmp_path: Path) -> None:
    budget = Budget(epochs=2, batch_size=16, checkpoint=Checkpoint(tmp_path))
    whole, again = net(), net()
    told = fit(whole, None, budget, dying(-1))

    budget = dataclasses.replace(budget, checkpoint=Checkpoint(tmp_path))
    last = fit(again, None, budget, dying(1))

    assert bits(again) == bits(whole)
    assert (last.losses, last.stopped, last.resumed_at) == (told.losses, "epochs", told.steps)
    assert len(list(tmp_path.iterdir())) == 2  # one state, whatever the steps


@pytest.mark.parametrize(
    "strategy", ["replay", "averaged-replay", "der++", "ewc", "weight-averaging", "full"]
)
def test_a_retrain_by_any_strategy_goes_on_to_the_same_bits(tmp_path: Path, strategy: str) -> None:
    champion = LEARNER.build(torch.Generator().manual_seed(1))
    memory, budget = Memory(30, 0), Budget(epochs=2, batch_size=16)
    memory.add(rows(60, seed=7))
    whole, _ = retrain(LEARNER, champion, rows(), memory, strategy, budget, 0)
    cut = dataclasses.replace(budget, checkpoint=Checkpoint(tmp_path, every=0.0))
    cut_short = _DiesAfter(4)
    with pytest.raises(Killed):
        retrain(cut_short, champion, rows(), memory, strategy, cut, 0)

    cut = dataclasses.replace(budget, checkpoint=Checkpoint(tmp_path, every=0.0))
    again, report = retrain(LEARNER, champion, rows(), memory, strategy, cut, 0)

    assert report.resumed_at == 3
    assert bits(again) == bits(whole)


class _DiesAfter(Digits):
    _left: int

    def __init__(self, calls: int) -> None:
        super().__init__(channels=2, hidden=8)
        object.__setattr__(self, "_left", calls)

    def _loss(
        self, data: Examples, replay: Examples | None, replayed: float = 0.5
    ) -> Callable[[Tensor, Tensor], Tensor]:
        usual = super()._loss(data, replay, replayed)

        def loss(outputs: Tensor, y: Tensor) -> Tensor:
            object.__setattr__(self, "_left", self._left - 1)
            if self._left == 0:
                raise Killed
            return usual(outputs, y)

        return loss


@pytest.mark.parametrize("harm", ["other rows", "cut short", "torn", "no checkpoint", "linked"])
def test_a_checkpoint_of_another_training_or_a_broken_one_is_not_gone_on_from(
    tmp_path: Path, harm: str
) -> None:
    budget = Budget(epochs=1, batch_size=16, checkpoint=Checkpoint(tmp_path, every=0.0))
    fit(net(), None, budget, dying(-1))
    (tensors,), about = list(tmp_path.glob("*.safetensors")), tmp_path / "0.json"
    if harm == "other rows":
        budget = dataclasses.replace(budget, epochs=2)
    elif harm == "cut short":
        tensors.write_bytes(tensors.read_bytes()[:-1])
    elif harm == "torn":
        about.write_bytes(about.read_bytes()[:40])
    elif harm == "no checkpoint":
        about.write_text(json.dumps({"schema": 1}))
    else:
        tensors.rename(tmp_path / "elsewhere")
        tensors.symlink_to(tmp_path / "elsewhere")

    budget = dataclasses.replace(budget, checkpoint=Checkpoint(tmp_path))
    assert fit(net(), None, budget, dying(-1)).resumed_at == 0


def test_a_training_goes_on_without_a_checkpoint_where_the_disk_takes_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    budget = Budget(epochs=1, batch_size=16, checkpoint=Checkpoint(tmp_path / "file", every=0.0))
    assert fit(net(), None, budget, dying(-1)).stopped == "epochs"


def test_keeping_takes_a_small_share_of_the_time(tmp_path: Path) -> None:
    now = [0.0]

    def timer() -> float:
        now[0] += 1.0  # so each look costs a second, and keeping one or two
        return now[0]

    checkpoint = Checkpoint(tmp_path, every=10.0, timer=timer)
    checkpoint.begin("x")
    times = 0
    for step in range(1000):
        if checkpoint.due:
            checkpoint.keep(step, {"a": torch.zeros(1)}, {})
            times += 1
    assert times < 0.05 * now[0]


def test_what_was_kept_is_removed_when_the_work_is_done(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "work", every=0.0)
    fit(net(), None, Budget(epochs=1, checkpoint=checkpoint), dying(-1))
    assert (tmp_path / "work").exists()
    checkpoint.clear()
    checkpoint.clear()
    assert not (tmp_path / "work").exists()


def test_a_training_that_reads_its_rows_out_ends() -> None:
    report = fit(net(), rows(20, seed=5), Budget(epochs=9, batch_size=16, rows=40), dying(-1))
    assert (report.stopped, report.rows_read, report.steps) == ("rows", 48, 3)


def test_a_training_ends_once_its_loss_on_rows_set_apart_has_settled() -> None:
    watched = iter([0.5, 0.4, 0.4, 0.45, 0.1])
    report = fit(
        net(), None, Budget(epochs=9, batch_size=16, patience=2), dying(-1), lambda _: next(watched)
    )
    assert (report.stopped, report.epochs, report.watched) == ("settled", 4, (0.5, 0.4, 0.4, 0.45))


def test_a_new_lowest_loss_is_what_patience_waits_for() -> None:
    assert not has_settled([0.5, 0.4], 2)
    assert has_settled([0.4, 0.4, 0.4], 2)
    assert not has_settled([0.4, 0.4, 0.39], 2)
    assert has_settled([0.2, 0.4, 0.3, 0.25], 3)


def test_rows_are_set_apart_by_the_seed_where_there_are_enough_of_them() -> None:
    data = rows(10 * LEAST)
    parted = part(data, 3, torch.Generator().manual_seed(0))
    again = part(data, 3, torch.Generator().manual_seed(0))
    assert parted.apart is not None
    assert again.apart is not None
    assert torch.equal(parted.apart.x, again.apart.x)
    assert (len(parted.apart), len(parted.learnt)) == (LEAST, 9 * LEAST)
    together = torch.cat([parted.apart.x, parted.learnt.x])
    assert len(torch.unique(together, dim=0)) == len(torch.unique(data.x, dim=0))
    for few, patience in ((rows(10 * LEAST - 1), 3), (data, None)):
        assert part(few, patience, torch.Generator()).apart is None


def test_for_classes_a_training_watches_the_chance_that_the_truth_is_given() -> None:
    model, data = LEARNER.build(torch.Generator().manual_seed(0)), rows()
    chances = LEARNER.predict(model, data.x)[range(len(data)), data.y]
    assert LEARNER.watch(model, data) == pytest.approx(1.0 - float(chances.mean()))
