"""Which versions saw rows: those that held them, and what was made from these."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from registry.erasing import Found, Seen, files_learnt, seen_by
from registry.lineage_record import Ancestor
from registry.lineage_records import Kept
from registry.remembered import Holding, Run


def digest(version: int) -> str:
    return f"{version:064x}"


def kept(version: int | None, parent: int = 0, champion: int = 0, begins: str = "") -> Kept:
    """A lineage of which only what is read here is there."""
    record = SimpleNamespace(
        parent=Ancestor(parent, digest(parent)) if parent else None,
        champion=Ancestor(champion, digest(champion)) if champion else None,
        data=SimpleNamespace(begins=begins, source="loans.csv"),
    )
    return cast("Kept", SimpleNamespace(version=version, record=record))


def found(*seen: int, others: tuple[int, ...] = ()) -> Found:
    runs = [Holding(Run(f"r{one}", digest(one), (one,)), learnt=True) for one in seen]
    runs += [Holding(Run(f"r{one}", digest(one), (one,))) for one in others]
    return Found({}, frozenset(), {}, 0, tuple(runs))


def test_what_was_made_from_a_version_that_saw_rows_saw_them_too() -> None:
    known = [kept(5, champion=4), kept(4, parent=2), kept(3, parent=1), kept(2), kept(None, 2)]
    assert seen_by(found(2, others=(1, 3, 4, 5)), known) == [Seen(2, 0), Seen(4, 2), Seen(5, 4)]


def test_nobody_saw_what_nobody_held() -> None:
    assert seen_by(found(others=(1, 2)), [kept(2, parent=1)]) == []


def test_a_restored_version_is_known_by_its_digest() -> None:
    """Its number is another one in MLflow than the one that its descendant names."""
    restored = Found({}, frozenset(), {}, 0, (Holding(Run("r", digest(1), (9,)), learnt=True),))
    assert seen_by(restored, [kept(2, parent=1)]) == [Seen(2, 9), Seen(9, 0)]


def test_versions_that_learnt_a_file_are_named_with_it() -> None:
    assert files_learnt([kept(1), kept(2, begins="2026-11-01T00:00:00+00:00")]) == [
        (1, "loans.csv")
    ]


def test_a_place_that_could_not_be_searched_proves_nothing() -> None:
    trouble = Holding(Run("r1", digest(1), (1,)), trouble="It cannot be read.")
    assert not Found({}, frozenset(), {}, 0, (trouble,)).proven
    assert found(others=(1,)).proven
