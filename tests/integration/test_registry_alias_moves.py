"""Alias moves as lines of the ledger, on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy.orm import Session

from registry import lines_of, promote, verify_ledger
from registry.alias_moves import (
    AliasMove,
    alias_moves,
    known_aliases,
    last_mover,
    note_aliases,
    note_made,
    times_moved,
)

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def see(session: Session, actor: str = "ada", **aliases: int) -> list[AliasMove]:
    return note_aliases(session, "m", aliases, actor=actor, reason="Seen.", at=NOW)


def test_a_difference_to_the_last_look_is_a_move() -> None:
    assert alias_moves({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 3, "d": 4}) == [
        AliasMove("b", 2, 3),
        AliasMove("c", 3, None),
        AliasMove("d", None, 4),
    ]


def test_each_move_is_one_line_and_the_newest_says_where_all_aliases_are(session: Session) -> None:
    assert known_aliases(session, "m") == {}
    see(session, champion=1, standby=2)
    assert see(session, champion=1, standby=2) == []
    see(session, "bob", champion=3)
    said = [(one.actor, one.before, one.after, one.version) for one in lines_of(session, "m")]
    assert said == [
        ("ada", None, "champion=1", 1),
        ("ada", None, "standby=2", 2),
        ("bob", "champion=1", "champion=3", 3),
        ("bob", "standby=2", None, 2),
    ]
    assert known_aliases(session, "m") == {"champion": 3}
    assert known_aliases(session, "another") == {}
    assert verify_ledger(session, "m").intact


def test_what_we_moved_is_noted_beside_what_stands(session: Session) -> None:
    see(session, champion=1, nightly=7)
    made = {"champion": 2, "nightly": None, "standby": 1}
    note_made(session, "m", made, actor="us", reason="Follows.", at=NOW)
    assert known_aliases(session, "m") == {"champion": 2, "standby": 1}
    assert see(session, champion=2, standby=1) == []


def test_moves_are_counted_by_alias_version_person_and_routing(session: Session) -> None:
    def moved(version: int | None, actor: str = "ada", since: int = 0) -> int:
        return times_moved(session, "m", "champion", version, actor, since)

    see(session, champion=1, Champion=2)
    see(session, champion=2, Champion=2)
    see(session, "us", champion=1, Champion=2)
    promote(session, "m", 1, actor="t", reason="t", evidence={}, now=NOW, digest="d" * 64)
    see(session, champion=2, Champion=2)
    see(session, Champion=2)
    assert [moved(1), moved(1, "us"), moved(2), moved(2, since=1), moved(None)] == [1, 1, 2, 1, 1]
    assert moved(None, since=2) == 0


@pytest.mark.parametrize(("alias", "other"), [("a_b", "axb"), ("a%", "abc"), ("é", "e")])
def test_an_alias_is_not_taken_for_another(session: Session, alias: str, other: str) -> None:
    note_aliases(session, "m", {alias: 1}, actor="ada", reason="Seen.", at=NOW)
    note_aliases(session, "m", {alias: 1, other: 1}, actor="bob", reason="Seen.", at=NOW)
    assert last_mover(session, "m", alias) == ("ada", 0)
    assert last_mover(session, "m", other) == ("bob", 0)
    assert last_mover(session, "m", "nobody") is None
    note_aliases(session, "m", {alias: 1}, actor="eve", reason="Seen.", at=NOW)
    assert times_moved(session, "m", other, None, "eve", 0) == 1
    assert times_moved(session, "m", alias, None, "eve", 0) == 0
