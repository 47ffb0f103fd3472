"""The ledger: one chain of every change, which nobody forks and every changed byte shows in."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from homeostat.errors import Refused
from registry import (
    Routing,
    connect,
    current_routing,
    downgrade,
    grant_override,
    lines_of,
    quarantine,
    record,
    release_quarantine,
    routing_history,
    sessions,
    upgrade,
    verify_ledger,
    write_routing,
)

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
COLUMNS = (
    "kind",
    "digest",
    "at",
    "actor",
    "reason",
    "before",
    "after",
    "evidence",
    "previous_hash",
    "hash",
)


def move(session: Session, expected: int, champion: int, **changes: object) -> Routing:
    values: dict[str, Any] = {
        "champion": champion,
        "challenger": None,
        "standby": None,
        "phase": "steady",
        "canary_share": 0.0,
        "actor": "ann",
        "reason": "because",
        "evidence": {"accuracy": 0.97, "words": ["ä", None]},
        "at": NOON + MINUTE * expected,
        "digests": {champion: f"{champion:064x}"},
    }
    return write_routing(session, "digits", expected, **values | changes)


def note(session: Session, after: str, model: str = "digits") -> None:
    record(
        session,
        model,
        "alias",
        actor="unknown (MLflow)",
        reason="somebody moved it",
        at=NOON,
        before="champion: version 1",
        after=after,
        version=2,
        digest="d" * 64,
    )


def fill(session: Session) -> None:
    """Four routings and two notes: lines 1 to 6."""
    move(session, 0, 1)
    note(session, "champion: version 2")
    move(session, 1, 2, standby=1)
    move(session, 2, 1)
    note(session, "challenger: version 3")
    move(session, 3, 1, challenger=3, phase="canary", canary_share=0.25)


def test_every_kind_of_change_is_a_line_of_one_chain(session: Session) -> None:
    move(session, 0, 1)
    grant_override(session, "digits", 2, "bob", "need", NOON + MINUTE, NOON)
    quarantine(session, "digits", "a" * 64, "it leaks", NOON, actor="guard", version=2)
    quarantine(session, "digits", "a" * 64, "it leaks more", NOON, actor="guard", version=2)
    release_quarantine(session, "digits", "a" * 64, NOON, actor="ann", reason="mended")
    release_quarantine(session, "digits", "a" * 64, NOON, actor="ann", reason="mended")
    note(session, "champion: version 2")
    move(session, 1, 2, standby=1)
    lines = lines_of(session, "digits")
    assert [(one.line, one.kind, one.generation) for one in lines] == [
        (1, "routing", 1),
        (2, "override", 1),
        (3, "quarantine", 1),
        (4, "quarantine", 1),
        (5, "alias", 1),
        (6, "routing", 2),
    ]
    assert [one.actor for one in lines[1:4]] == ["bob", "guard", "ann"]
    assert [(one.before, one.after) for one in lines[2:4]] == [
        (None, "in quarantine"),
        ("in quarantine", None),
    ]
    assert lines[5].before == lines[0].after
    assert (lines[5].version, lines[5].digest) == (2, f"{2:064x}")
    assert [one.previous_hash for one in lines[1:]] == [one.hash for one in lines[:-1]]
    assert verify_ledger(session, "digits").intact


def test_lines_are_read_from_a_number_on(session: Session) -> None:
    fill(session)
    assert [one.line for one in lines_of(session, "digits", after=2, limit=3)] == [3, 4, 5]


def test_a_note_keeps_the_number_of_the_next_routing(session: Session) -> None:
    note(session, "champion: version 2")
    assert current_routing(session, "digits") is None
    assert move(session, 0, 1).generation == 1
    note(session, "champion: version 3")
    assert move(session, 1, 2).generation == 2


@pytest.mark.parametrize("kind", ["", "routing", "k" * 33])
def test_a_kind_that_is_none_is_refused(session: Session, kind: str) -> None:
    with pytest.raises(Refused, match="cannot be noted"):
        record(session, "digits", kind, actor="a", reason="b", at=NOON, before=None, after=None)
    assert lines_of(session, "digits") == []


def test_texts_that_a_column_cannot_hold_are_noted_all_the_same(session: Session) -> None:
    note(session, "half \ud800 and \0 nothing")
    assert lines_of(session, "digits")[0].after == "half ? and \N{REPLACEMENT CHARACTER} nothing"
    assert verify_ledger(session, "digits").intact


def test_models_have_ledgers_of_their_own(session: Session) -> None:
    move(session, 0, 1)
    note(session, "champion: version 2", model="other")
    assert [one.line for one in lines_of(session, "other")] == [1]
    assert verify_ledger(session, "other").lines == 1
    assert verify_ledger(session, "nobody").intact


def test_notes_written_at_once_queue_and_none_is_lost(maker: sessionmaker[Session]) -> None:
    failures: list[BaseException] = []

    def write(name: int) -> None:
        try:
            for number in range(5):
                with maker.begin() as session:
                    note(session, f"{name}/{number}")
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with maker() as session:
        lines = lines_of(session, "digits")
        assert [one.line for one in lines] == list(range(1, 41))
        assert len({one.after for one in lines}) == 40
        assert verify_ledger(session, "digits").intact


@pytest.mark.parametrize(
    "change",
    [
        "kind = 'alias'",
        "generation = 7",
        "version = 7",
        "version = NULL",
        "at = replace(at, 'T', ' ')",
        "at = (SELECT max(l.at) FROM ledger l)",
        "actor = 'eve'",
        "reason = NULL || 'Because'",
        "before = NULL",
        "after = replace(after, '{', '[')",
        "evidence = replace(evidence, ',', ', ')",
        "previous_hash = replace(previous_hash, substr(previous_hash, 1, 1), 'x')",
        "hash = replace(hash, substr(hash, 1, 1), 'x')",
    ],
)
def test_a_changed_line_is_found(maker: sessionmaker[Session], change: str) -> None:
    change = change.replace("NULL || ", "")
    with maker.begin() as session:
        fill(session)
        session.execute(text(f"UPDATE ledger SET {change} WHERE line = 3"))  # noqa: S608 - our own columns
    with maker() as session:
        report = verify_ledger(session, "digits")
    assert (report.intact, report.broken, report.lines) == (False, 3, 2)
    assert report.reason


def test_every_byte_of_a_line_counts(maker: sessionmaker[Session]) -> None:
    """One character after the other of every text is changed, found and put back."""
    with maker.begin() as session:
        fill(session)
    with maker() as session:
        for column in COLUMNS:
            query = text(f"SELECT {column} FROM ledger WHERE line = 3")  # noqa: S608 - our own columns
            original = session.execute(query).scalar_one()
            statement = text(f"UPDATE ledger SET {column} = :value WHERE line = 3")  # noqa: S608 - our own columns
            for place, letter in enumerate(original):
                flipped = original[:place] + chr(ord(letter) ^ 1) + original[place + 1 :]
                session.execute(statement, {"value": flipped})
                assert verify_ledger(session, "digits").broken == 3, (column, place)
            session.execute(statement, {"value": original})
        assert verify_ledger(session, "digits").intact
        session.rollback()


@pytest.mark.parametrize("removed", [1, 2, 5, 6])
def test_a_line_taken_out_is_found(maker: sessionmaker[Session], removed: int) -> None:
    with maker.begin() as session:
        fill(session)
        session.execute(text("DELETE FROM ledger WHERE line = :n"), {"n": removed})
    with maker() as session:
        assert verify_ledger(session, "digits").broken == removed


def test_a_line_that_moved_to_another_model_is_found(maker: sessionmaker[Session]) -> None:
    with maker.begin() as session:
        fill(session)
        session.execute(text("UPDATE ledger SET model = 'digitt' WHERE line = 4"))
    with maker() as session:
        assert verify_ledger(session, "digits").broken == 4
        assert verify_ledger(session, "digitt").broken == 1


def test_a_line_that_cannot_even_be_read_is_found(tmp_path: Path, migrated_sqlite: Path) -> None:
    path = tmp_path / "lifecycle.db"
    path.write_bytes(migrated_sqlite.read_bytes())
    engine = connect(f"sqlite:///{path}")
    with sessions(engine).begin() as session:
        fill(session)
    for column in ("at", "reason", "evidence", "hash"):
        with sessions(engine)() as session:
            value = "CAST(x'32ff31' AS TEXT)"
            session.execute(text(f"UPDATE ledger SET {column} = {value} WHERE line = 3"))  # noqa: S608 - our own columns
            report = verify_ledger(session, "digits")
            session.rollback()
        assert report.broken == 3, report
        assert "cannot be read" in report.reason
    engine.dispose()


def test_a_ledger_goes_down_to_the_older_schema_and_up_again(empty_database_url: str) -> None:
    """The routings are kept both ways; the way up says what it took over."""
    upgrade(empty_database_url)
    engine = connect(empty_database_url)
    with sessions(engine).begin() as session:
        fill(session)
        before = routing_history(session, "digits")
    downgrade(empty_database_url, "0003")
    with engine.begin() as connection:
        rows = connection.execute(text("SELECT generation, hash FROM routings ORDER BY id")).all()
    assert [row.generation for row in rows] == [1, 2, 3, 4]
    upgrade(empty_database_url)
    with sessions(engine)() as session:
        after = routing_history(session, "digits")
        assert [_content(one) for one in after] == [_content(one) for one in before]
        *_, last = lines_of(session, "digits")
        assert (last.line, last.kind, last.generation) == (5, "migration", 4)
        assert last.before == f"4 routings, last hash {rows[-1].hash}"
        assert last.evidence == {"chain_was_whole": True}
        assert verify_ledger(session, "digits").intact
        assert move(session, 4, 9).generation == 5
    engine.dispose()


def test_a_broken_chain_is_taken_over_as_broken(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    engine = connect(empty_database_url)
    with sessions(engine).begin() as session:
        fill(session)
    downgrade(empty_database_url, "0003")
    with engine.begin() as connection:
        connection.execute(text("UPDATE routings SET actor = 'eve' WHERE generation = 2"))
    upgrade(empty_database_url)
    with sessions(engine)() as session:
        *_, last = lines_of(session, "digits")
        assert last.evidence == {"chain_was_whole": False}
    engine.dispose()


def _content(routing: Routing) -> Routing:
    return Routing(**vars(routing) | {"hash": ""})
