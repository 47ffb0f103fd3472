"""Data sets: what cannot be read is refused with what is there; a split keeps its word."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from homeostat.errors import DataError
from models import Dataset, read_dataset, split


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "size": [1, 2, None, 4],
            "kind": ["a", None, "c", "d"],
            "sold": [True, False, True, False],
            "price": [1.5, 2.5, 3.5, None],
        }
    )


@pytest.fixture(params=["csv", "parquet"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"houses.{request.param}"
    if request.param == "csv":
        frame().to_csv(path, index=False)
    else:
        frame().to_parquet(path)
    return path


def test_a_file_is_read_as_plain_values_with_none_for_missing(file: Path) -> None:
    data = read_dataset(str(file), "price")
    assert data.rows == (
        {"size": 1, "kind": "a", "sold": True},
        {"size": 2, "kind": None, "sold": False},
        {"size": None, "kind": "c", "sold": True},
    )
    assert data.labels == (1.5, 2.5, 3.5)
    assert data.unlabelled == 1


def test_the_digest_is_of_the_content_not_of_the_file(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "a.csv", index=False)
    frame().to_parquet(tmp_path / "a.parquet")
    frame().iloc[::-1].to_csv(tmp_path / "other.csv", index=False)
    one, two, other = (
        read_dataset(str(tmp_path / name), "price").digest
        for name in ("a.csv", "a.parquet", "other.csv")
    )
    assert one == two != other


def test_the_built_in_digits_are_there() -> None:
    data = read_dataset("builtin:digits", "label")
    assert len(data) == 1797
    assert len(data.rows[0]) == 64
    assert set(data.labels) == set(range(10))


def test_a_missing_label_column_is_named_with_those_present(file: Path) -> None:
    with pytest.raises(DataError, match="no column 'prize'; its columns are size, kind") as caught:
        read_dataset(str(file), "prize")
    assert caught.value.fields["columns"] == ["size", "kind", "sold", "price"]


def refused(path: Path | str, label: str = "price") -> str:
    with pytest.raises(DataError) as caught:
        read_dataset(str(path), label)
    assert caught.value.remedy
    return caught.value.message


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    (tmp_path / "empty.parquet").touch()
    (tmp_path / "header.csv").write_text("size,price\n")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and then nothing of the kind")
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe\x00")
    (tmp_path / "houses.xlsx").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe.csv")
    assert "is empty" in refused(tmp_path / "empty.csv")
    assert "is empty" in refused(tmp_path / "empty.parquet")
    assert "no row; its columns are size, price" in refused(tmp_path / "header.csv")
    assert "cannot be read as Parquet" in refused(tmp_path / "torn.parquet")
    assert "cannot be read as CSV" in refused(tmp_path / "picture.csv")
    assert "neither CSV nor Parquet" in refused(tmp_path / "houses.xlsx")
    assert "is not a file" in refused(tmp_path / "pipe.csv")
    assert "is not a file" in refused(tmp_path)
    assert "There is no file" in refused(tmp_path / "none.csv")
    assert "no data set 'builtin:cats'" in refused("builtin:cats")


def test_a_file_without_any_label_or_any_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("size,price\n1,\n2,\n")
    (tmp_path / "b.csv").write_text("price\n1\n2\n")
    assert "no value in its label column" in refused(tmp_path / "a.csv")
    assert "no column but the label" in refused(tmp_path / "b.csv")


def test_a_column_that_json_cannot_carry_is_named(tmp_path: Path) -> None:
    dated = frame().assign(at=pd.Timestamp("2026-01-01"))
    dated.to_parquet(tmp_path / "dated.parquet")
    assert "The column 'at'" in refused(tmp_path / "dated.parquet")


def test_a_column_of_lists_is_read_as_lists(tmp_path: Path) -> None:
    path = tmp_path / "images.parquet"
    pd.DataFrame({"pixels": [[1, 2], [3, 4]], "label": [0, 1]}).to_parquet(path)
    assert read_dataset(str(path), "label").rows == ({"pixels": [1, 2]}, {"pixels": [3, 4]})


def numbered(rows: range) -> Dataset:
    return Dataset.of([{"x": row} for row in rows], [row % 2 for row in rows])


def test_a_split_is_the_same_each_time_and_another_with_another_seed() -> None:
    data = numbered(range(1000))
    assert split(data, 0.3, 1) == split(data, 0.3, 1)
    assert split(data, 0.3, 1) != split(data, 0.3, 2)


def test_a_split_holds_out_about_its_share_and_loses_no_row() -> None:
    train, held = split(numbered(range(1000)), 0.3, 0)
    assert len(train) + len(held) == 1000
    assert 250 < len(held) < 350
    assert {row["x"] for row in train.rows} & {row["x"] for row in held.rows} == set()
    assert all(row["x"] % 2 == label for row, label in zip(held.rows, held.labels, strict=True))


def test_rows_that_come_later_do_not_move_the_others() -> None:
    _, before = split(numbered(range(500)), 0.3, 0)
    _, after = split(numbered(range(1000)), 0.3, 0)
    assert [row for row in after.rows if row["x"] < 500] == list(before.rows)


def test_equal_rows_never_stand_on_both_sides() -> None:
    train, held = split(numbered(range(50)), 0.5, 3)
    twice = Dataset.of([*train.rows, *held.rows] * 2, [*train.labels, *held.labels] * 2)
    again, rest = split(twice, 0.5, 3)
    assert {row["x"] for row in again.rows} == {row["x"] for row in train.rows}
    assert {row["x"] for row in rest.rows} == {row["x"] for row in held.rows}


def test_rows_that_repeat_themselves_stand_on_both_sides() -> None:
    """There are four different rows, and no other will come: all four are to be learnt."""
    data = numbered(range(4))
    often = Dataset.of(data.rows * 100, data.labels * 100)
    train, held = split(often, 0.3, 0)
    assert {row["x"] for row in train.rows} == {row["x"] for row in held.rows} == {0, 1, 2, 3}
    assert 90 < len(held) < 150
    later = Dataset.of([*often.rows, *often.rows], [*often.labels, *often.labels])
    assert list(split(later, 0.3, 0)[1].rows)[: len(held)] == list(held.rows)


def test_rows_whose_contents_go_on_being_new_stand_on_one_side_however_often_each_comes() -> None:
    """A counter that is logged twenty times a second repeats itself, but not what it says next."""
    rows = [{"x": number // 20} for number in range(2_000)]
    train, held = split(Dataset.of(rows, [0] * 2_000), 0.3, 0)
    assert {row["x"] for row in train.rows} & {row["x"] for row in held.rows} == set()


@pytest.mark.parametrize("seed", range(20))
def test_neither_side_of_a_small_split_is_empty(seed: int) -> None:
    train, held = split(numbered(range(2)), 0.01, seed)
    assert len(train) == len(held) == 1


@pytest.mark.parametrize("count", [3, 300])
def test_a_single_row_cannot_be_split_however_often_it_comes(count: int) -> None:
    with pytest.raises(DataError, match="1 different rows"):
        split(Dataset.of([{"x": 1}] * count, [0] * count), 0.5, 0)
