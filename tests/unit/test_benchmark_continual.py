"""What the benchmark of retraining strategies counts, and what its streams are made of."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import continual_sides
from benchmarks.continual import history, interval, lines, sides_of
from benchmarks.continual_sides import ANEW, PATIENCE, SETTLED, Found, follow
from benchmarks.continual_streams import TURN, Stream, rotated_digits, split_digits, turned
from models import Budget, Digits, Examples


def test_forgetting_is_the_loss_since_each_former_tasks_best() -> None:
    matrix = np.array([[0.5, np.nan, np.nan], [0.9, 0.8, np.nan], [0.6, 0.7, 1.0]])
    found = Found(matrix, np.zeros(3), 0)
    assert found.forgetting == pytest.approx((0.3 + 0.1) / 2)
    assert found.accuracy == pytest.approx((0.6 + 0.7 + 1.0) / 3)


def test_the_interval_is_students() -> None:
    assert interval([0.90, 0.92, 0.94]) == "0.920 ± 0.050"  # 4.303 * 0.02 / sqrt(3)


def test_the_most_accurate_strategy_comes_first_and_the_full_retrain_above() -> None:
    def found(accuracy: float, seconds: float) -> list[Found]:
        return [Found(np.full((2, 2), accuracy), np.array([9.0, seconds]), 0)]

    said = lines({"all rows anew": found(0.9, 4.0), "ewc": found(0.5, 2.0), "der++": found(1, 1.0)})
    names = [line.split("  ")[0] for line in said]
    assert names == ["strategy", "all rows anew", "der++", "ewc"]
    assert "1.00 s   25%" in said[2]


def test_the_cost_is_followed_over_the_length_of_the_history() -> None:
    matrix = np.array([[0.9, np.nan], [0.8, 0.6]])
    full, ours = Found(matrix, np.array([1.0, 2.0]), 0), Found(matrix, np.array([1.0, 0.5]), 0)
    _, line = history({"all rows anew": [full], "replay": [ours]})
    assert line.split() == ["2", "2.00", "s", "0.700", "25%", "0.700"]


def test_the_streams_are_the_same_for_a_seed_and_teach_no_held_out_row() -> None:
    stream, again = split_digits(3), split_digits(3)
    assert all(torch.equal(a.x, b.x) for a, b in zip(stream.taught, again.taught, strict=True))
    for task, (rows, held) in enumerate(zip(stream.taught, stream.held_out, strict=True)):
        assert set(rows.y.tolist()) == set(held.y.tolist()) == {2 * task, 2 * task + 1}
        assert not set(map(tuple, rows.x.tolist())) & set(map(tuple, held.x.tolist()))


def test_each_rotated_task_has_all_classes_and_is_turned_further() -> None:
    stream = rotated_digits(0)
    assert all(set(held.y.tolist()) == set(range(10)) for held in stream.held_out)
    upright = stream.held_out[0].x.numpy().astype(np.float64)
    assert np.allclose(stream.held_out[2].x.numpy(), turned(upright, 2 * TURN), atol=1e-4)
    assert np.allclose(
        turned(upright, 180.0).reshape(-1, 8, 8), upright.reshape(-1, 8, 8)[:, ::-1, ::-1]
    )


def test_a_strategy_is_followed_through_all_tasks_and_what_it_kept_is_counted() -> None:
    parts = split_digits(0)
    short = [Examples(rows.x[:40], rows.y[:40]) for rows in parts.taught]
    learner = Digits(channels=0, hidden=8)
    stream = Stream(learner, tuple(short), parts.held_out, 50, Budget(epochs=1))
    found = follow(stream, "replay", 0)
    assert np.isnan(found.matrix[0, 1:]).all()
    assert not np.isnan(found.matrix[-1]).any()
    assert found.kept == 50 * (64 * 4 + 8 + 8 + 8)
    assert follow(stream, "fine-tune", 0).kept == 0


def test_settled_is_the_default_with_a_patience_after_the_first_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts, asked = split_digits(0), []

    def retrain(*given: object) -> tuple[object, None]:
        asked.append(given[4:6])
        return given[1], None

    monkeypatch.setattr(continual_sides, "retrain", retrain)
    learner = Digits(channels=0, hidden=8)
    follow(Stream(learner, parts.taught[:2], parts.held_out[:2], 50, Budget(epochs=1)), SETTLED, 0)
    assert asked == [("averaged-replay", Budget(epochs=1, patience=PATIENCE))]


def test_of_avalanches_strategies_rows_and_weights_kept_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("wandb", "GPUtil"):  # which the peer makes, and which are to be gone again
        monkeypatch.setitem(sys.modules, name, SimpleNamespace())
    from benchmarks.peers.avalanche_continual import kept_by

    row = torch.zeros(64), 3, torch.tensor(0), torch.zeros(10)
    rows = SimpleNamespace(storage_policy=SimpleNamespace(buffer=[row, row]))
    tables = {0: {"weight": SimpleNamespace(data=torch.zeros(5))}}
    weights = SimpleNamespace(saved_params=tables, importances=tables)
    strategy = SimpleNamespace(plugins=[rows, weights])
    assert kept_by(strategy) == 2 * (64 * 4 + 8 + 8 + 40) + 2 * 5 * 4


def test_filters_are_asked_of_images_alone_though_they_are_wanted() -> None:
    wanted = ("prototypes filters", "replay")
    assert sides_of("clinc", peer=False, wanted=wanted) == (ANEW, "replay")
    assert sides_of("split-mnist", peer=False, wanted=wanted) == (ANEW, *wanted)
