from __future__ import annotations

import pytest

from flows.work import work_key


def test_the_same_work_has_the_same_key_in_whatever_order_it_is_told() -> None:
    assert work_key(model="m", config={"a": 1, "b": 2}) == work_key(
        config={"b": 2, "a": 1}, model="m"
    )


@pytest.mark.parametrize(
    "other", [{"model": "n"}, {"seed": 1}, {"key": "again"}, {"config": {"a": 2}}]
)
def test_other_work_has_another_key(other: dict[str, object]) -> None:
    parts: dict[str, object] = {"model": "m", "seed": 0, "key": "", "config": {"a": 1}}

    assert work_key(**parts | other) != work_key(**parts)


def test_a_key_can_stand_in_a_search_of_mlflow() -> None:
    key = work_key(model="it's")

    assert len(key) == 32
    assert set(key) <= set("0123456789abcdef")
