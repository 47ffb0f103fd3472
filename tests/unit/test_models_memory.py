"""The memory is a balanced, uniform sample that survives saving; regimes are frozen."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from homeostat.errors import ArtifactError, DataError
from models import Examples, Memory, Regimes


def examples(classes: list[int], regime: int = 0, start: int = 0) -> Examples:
    count = len(classes)
    x = torch.arange(start, start + count, dtype=torch.float32).reshape(-1, 1)
    ids = tuple(f"row-{start + index}" for index in range(count))
    return Examples(x, torch.tensor(classes), ids, torch.full((count,), regime))


def cells(memory: Memory) -> Counter[tuple[int, int]]:
    rows = memory.examples()
    return Counter(zip(rows.regime.tolist(), rows.y.tolist(), strict=True))


def same(one: Examples, other: Examples) -> bool:
    return one.ids == other.ids and all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("x", "y", "regime", "weight")
    )


def test_below_its_capacity_everything_is_kept() -> None:
    memory = Memory(100, 0)
    memory.add(examples([0, 1, 1]))
    assert memory.examples().ids == ("row-0", "row-1", "row-2")
    assert memory.examples().weight.tolist() == [1.0, 1.0, 1.0]


def test_classes_and_regimes_share_equally_and_small_ones_are_kept_whole() -> None:
    memory = Memory(100, 0)
    memory.add(examples([0] * 900 + [1] * 95 + [2] * 5))
    assert sorted(cells(memory).values()) == [5, 47, 48]
    memory.add(examples([0] * 500 + [1] * 500, regime=1, start=1000))
    assert len(memory) == 100
    assert cells(memory)[0, 2] == 5
    assert {cells(memory)[cell] for cell in ((0, 0), (0, 1), (1, 0), (1, 1))} <= {23, 24}


def test_more_classes_than_places_keep_one_row_of_some() -> None:
    memory = Memory(3, 0)
    memory.add(examples(list(range(10)) * 4))
    assert sorted(cells(memory).values()) == [1, 1, 1]


def test_adding_at_once_or_in_parts_keeps_the_same_rows() -> None:
    classes = torch.randint(0, 5, (500,), generator=torch.Generator().manual_seed(0)).tolist()
    whole, parts = Memory(60, 3), Memory(60, 3)
    whole.add(examples(classes))
    for start in range(0, 500, 37):
        parts.add(examples(classes[start : start + 37], start=start))
    assert same(whole.examples(), parts.examples())


def test_each_row_of_a_cell_is_kept_equally_often() -> None:
    """Of 20 rows 5 are kept: over 2,000 seeds each 500 times, give or take 4.5 deviations."""
    kept: Counter[str] = Counter()
    for seed in range(2000):
        memory = Memory(10, seed)
        memory.add(examples([0] * 20))
        memory.add(examples([1] * 40, start=20))
        kept.update(memory.examples().ids)
    bound = 4.5 * (2000 * 0.25 * 0.75) ** 0.5
    assert all(abs(kept[f"row-{index}"] - 500) < bound for index in range(20))


def test_the_weights_add_up_to_all_that_passed() -> None:
    memory = Memory(10, 0)
    memory.add(examples([0] * 90 + [1] * 10))
    rows = memory.examples()
    assert rows.weight[rows.y == 0].sum() == 90
    assert rows.weight[rows.y == 1].sum() == 10
    assert memory.seen == 100


def test_rows_of_unknown_class_are_not_taken() -> None:
    memory = Memory(10, 0)
    memory.add(examples([-1, -1]))
    assert len(memory) == memory.seen == 0
    memory.add(examples([0, -1, 1]))
    assert memory.examples().ids == ("row-0", "row-2")


def test_values_are_balanced_over_regimes_alone() -> None:
    memory = Memory(10, 0)
    for regime in (0, 1):
        memory.add(Examples(torch.zeros(50, 2), torch.rand(50), (), torch.full((50,), regime)))
    assert torch.bincount(memory.examples().regime).tolist() == [5, 5]


def test_a_loaded_memory_goes_on_as_if_never_saved(tmp_path: Path) -> None:
    memory = Memory(20, 9)
    memory.add(examples([0, 1] * 50))
    memory.save(tmp_path)
    again = Memory.load(tmp_path)
    assert same(memory.examples(), again.examples())
    for each in (memory, again):
        each.add(examples([0, 1, 2] * 30, regime=1, start=100))
    assert same(memory.examples(), again.examples())
    assert (again.capacity, again.seed, again.seen) == (20, 9, 190)


def test_rows_that_do_not_fit_are_refused() -> None:
    memory = Memory(10, 0)
    memory.add(examples([0, 1]))
    with pytest.raises(DataError, match="do not go with"):
        memory.add(Examples(torch.zeros(1, 2), torch.tensor([0])))
    with pytest.raises(DataError, match="1 rows, 2 truths"):
        memory.add(Examples(torch.zeros(1, 1), torch.tensor([0, 1])))
    with pytest.raises(DataError, match="keeps nothing"):
        Memory(0, 0)
    with pytest.raises(DataError, match="is empty"):
        Memory(5, 0).examples()


def saved(folder: Path) -> Path:
    memory = Memory(5, 0)
    memory.add(examples([0, 1, 0]))
    memory.save(folder)
    return folder


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"capacity": 0},
        {"capacity": 2},
        {"capacity": "5"},
        {"seed": -1},
        {"passed": None},
        {"ids": ["only one"]},
        {"ids": [1, 2, 3]},
        {"seen": []},
        {"seen": [[0, 0]]},
        {"seen": [[0, 0, "2"], [0, 1, 1]]},
    ],
)
def test_a_memory_that_was_tampered_with_is_refused(
    tmp_path: Path, change: dict[str, object]
) -> None:
    path = saved(tmp_path) / "memory.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ArtifactError):
        Memory.load(tmp_path)


def test_a_memory_that_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path) / "memory.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ArtifactError, match="not a safetensors file"):
        Memory.load(tmp_path)
    path.unlink()
    with pytest.raises(ArtifactError, match="cannot be read"):
        Memory.load(tmp_path)


def test_regimes_are_kept_apart_and_come_back(tmp_path: Path) -> None:
    regimes = Regimes()
    regimes.add(2, examples([0, -1, 1]))
    regimes.add(0, examples([1, 1], start=3))
    regimes.learnt = {0: 0.5, 2: 1.0}
    regimes.save(tmp_path)
    again = Regimes.load(tmp_path)
    assert again.learnt == {0: 0.5, 2: 1.0}
    assert again.numbers == regimes.numbers == (0, 2)
    for number in (0, 2):
        assert same(regimes.get(number), again.get(number))
    assert again.get(2).y.tolist() == [0, -1, 1]
    assert np.array_equal(again.get(2).regime.numpy(), [2, 2, 2])


def test_a_regime_is_frozen_and_never_empty(tmp_path: Path) -> None:
    regimes = Regimes()
    with pytest.raises(DataError, match="no regime to save"):
        regimes.save(tmp_path)
    regimes.add(0, examples([0, 1]))
    with pytest.raises(DataError, match="regime 0 are frozen"):
        regimes.add(0, examples([1]))
    with pytest.raises(DataError, match="no held-out row"):
        regimes.add(1, examples([]))
    with pytest.raises(DataError, match="do not go with"):
        regimes.add(1, Examples(torch.zeros(1, 2), torch.tensor([0])))
    with pytest.raises(DataError, match="Known: 0"):
        regimes.get(1)


def test_what_is_forgotten_is_gone_and_adding_goes_on(tmp_path: Path) -> None:
    memory = Memory(6, 0)
    memory.add(examples([0] * 20))
    first, *others = memory.ids
    assert memory.forget({first, "row-999", ""}) == 1
    assert memory.ids == tuple(others)
    assert memory.seen == 19
    memory.save(tmp_path)
    loaded = Memory.load(tmp_path)
    for one in (memory, loaded):
        one.add(examples([1] * 4, start=100))
    assert same(loaded.examples(), memory.examples())
    assert memory.forget(set(memory.ids)) == 6
    assert len(memory) == 0


def test_rows_without_an_id_are_nobodys() -> None:
    memory, regimes = Memory(6, 0), Regimes()
    rows = Examples(torch.zeros(2, 1), torch.tensor([0, 1]), ("", "row-1"))
    memory.add(rows)
    regimes.add(0, rows)
    assert (memory.forget({"", "row-1"}), regimes.forget({"", "row-1"})) == (1, 1)
    assert (memory.ids, regimes.ids) == (("",), ("",))


def test_a_regime_whose_last_row_is_forgotten_is_gone() -> None:
    regimes = Regimes()
    regimes.add(0, examples([0, 1]))
    regimes.add(1, examples([0, 1], regime=1, start=10))
    assert regimes.forget({"row-1", "row-10", "row-11"}) == 3
    assert (regimes.numbers, regimes.ids) == ((0,), ("row-0",))


def test_a_memory_stays_below_what_one_file_may_have() -> None:
    """40 rows of 64 MiB, all of them views of one: 2.5 GiB that take none of it."""
    rows = Examples(torch.zeros(1, 1 << 24).expand(40, -1), torch.zeros(40))
    for most in (None, 1 << 40):
        memory = Memory(40, 0, most)
        memory.add(rows)
        assert len(memory) == 23  # of 64 MiB and 60 bytes each, in 1.5 GiB
    with pytest.raises(DataError, match=r"the memory may have 1610612736"):
        Memory(40, 0).add(Examples(torch.zeros(1, 1).expand(1, 1 << 29), torch.zeros(1)))
