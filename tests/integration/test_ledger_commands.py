"""`history`, `served-at`, `ledger`: read with no server up, proved to the last byte."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker
from typer.testing import CliRunner

from homeostat.cli import app
from homeostat.commands.exits import REFUSED, exit_code
from homeostat.commands.ledger import moment_of
from homeostat.errors import (
    DataError,
    InputError,
    LedgerBroken,
    NothingServed,
    Unavailable,
    UnknownModel,
)
from registry import connect, lines_of, record, sessions, verify_ledger, write_routing
from registry.ledger_file import export_ledger, verify_file

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def ledger(
    tmp_path: Path, migrated_sqlite: Path, monkeypatch: pytest.MonkeyPatch
) -> sessionmaker[Session]:
    """A state folder whose ledger of `digits` has two routings and a note; no server is up."""
    shutil.copy(migrated_sqlite, tmp_path / "lifecycle.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOMEOSTAT_STATE_DIR", str(tmp_path))
    maker = sessions(connect(f"sqlite:///{tmp_path / 'lifecycle.db'}"))
    with maker.begin() as session:
        for number, champion in enumerate((1, 2)):
            write_routing(
                session,
                "digits",
                number,
                champion=champion,
                challenger=None,
                standby=1 if champion == 2 else None,
                phase="steady",
                canary_share=0.0,
                actor="ann",
                reason=f"reason {champion}",
                evidence={"accuracy": 0.97},
                at=NOON + MINUTE * number,
                digests={champion: f"{champion:064x}"},
            )
        record(
            session,
            "digits",
            "alias",
            actor="unknown (MLflow)",
            reason="moved on the page",
            at=NOON + MINUTE * 2,
            before="champion: version 1",
            after="champion: version 2",
        )
    return maker


def run(*words: str) -> str:
    """What a command prints; its error is raised here."""
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    return result.output


@pytest.mark.usefixtures("ledger")
def test_history_tells_every_change_newest_last() -> None:
    lines = run("history", "digits").splitlines()[1:]
    assert "version 1 champion" in lines[0]
    assert "version 2 champion, version 1 standby" in lines[1]
    assert "champion: version 1 → champion: version 2" in lines[2]
    assert "unknown (MLflow)" in lines[2]
    told = json.loads(run("history", "digits", "--last", "1", "--json"))
    assert [one["line"] for one in told["lines"]] == [3]


@pytest.mark.usefixtures("ledger")
def test_served_at_names_version_digest_share_and_who() -> None:
    assert "000000000001" not in run("served-at", "digits", "2026-11-22 12:00")
    told = json.loads(run("served-at", "digits", "2026-11-22T13:01:30+01:00", "--json"))
    assert told["at"] == "2026-11-22T12:01:30+00:00"
    champion, standby = told["served"]
    assert (champion["version"], champion["digest"]) == (2, f"{2:064x}")
    assert (champion["share"], champion["actor"], champion["reason"]) == (1.0, "ann", "reason 2")
    assert (standby["version"], standby["role"], standby["share"]) == (1, "standby", 0.0)


@pytest.mark.usefixtures("ledger")
def test_a_moment_before_the_first_routing_is_an_error() -> None:
    with pytest.raises(NothingServed):
        run("served-at", "digits", "2026-11-22 11:59")
    with pytest.raises(UnknownModel):
        run("served-at", "letters", "2026-11-22 12:00")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-22", NOON - timedelta(hours=12)),
        ("2026-11-22 12:00", NOON),
        ("2026-11-22T12:00:00Z", NOON),
        ("20261122T120000", NOON),
        (" 2026-11-22T07:00:00.000005-05:00 ", NOON + timedelta(microseconds=5)),
        ("NOW", NOON + timedelta(days=1)),
    ],
)
def test_a_time_has_several_forms(text: str, moment: datetime) -> None:
    assert moment_of(text, NOON + timedelta(days=1)) == moment


@pytest.mark.parametrize(
    "text", ["", "yesterday", "12", "2026-13-01", "0001-01-01T00:00+14:00", "2026-11-23 12:01"]
)
def test_what_is_no_time_or_not_yet_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        moment_of(text, NOON + timedelta(days=1))


def test_verify_says_which_line_was_changed(ledger: sessionmaker[Session]) -> None:
    assert "digits: 3 lines, whole" in run("ledger", "verify")
    with ledger.begin() as session:
        session.execute(text("UPDATE ledger SET actor = 'eve' WHERE line = 2"))
    with pytest.raises(LedgerBroken, match="Line 2 of the ledger of 'digits'") as error:
        run("ledger", "verify", "digits")
    assert error.value.fields["good"] == 1
    assert exit_code(error.value.code) == REFUSED


def test_a_head_noted_down_shows_a_ledger_written_anew(ledger: sessionmaker[Session]) -> None:
    head = run("ledger", "verify").split()[-1]
    assert "whole" in run("ledger", "verify", "digits", "--head", head)
    with ledger.begin() as session:
        session.execute(text("DELETE FROM ledger WHERE line = 3"))
        assert verify_ledger(session, "digits").intact  # no routing names a note
    with pytest.raises(LedgerBroken, match="cut off, or all were written anew"):
        run("ledger", "verify", "digits", "--head", head)


@pytest.mark.usefixtures("ledger")
def test_an_export_is_checked_without_a_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = json.loads(run("ledger", "export", "digits", "digits.ledger", "--json"))
    assert (told["file"], told["lines"]) == ("digits.ledger", 3)
    with pytest.raises(DataError, match="File exists"):
        run("ledger", "export", "digits", "digits.ledger")
    (tmp_path / "lifecycle.db").unlink()
    monkeypatch.setenv("HOMEOSTAT_STATE_DIR", str(tmp_path / "nowhere"))
    assert "digits: 3 lines, whole" in run("ledger", "verify", "--file", "digits.ledger")
    with pytest.raises(InputError, match="not of 'letters'"):
        run("ledger", "verify", "letters", "--file", "digits.ledger")
    with pytest.raises(DataError):
        run("ledger", "verify", "--file", "missing")
    with pytest.raises(Unavailable):
        run("ledger", "verify")
    assert not list(tmp_path.glob("*.part"))


def test_every_byte_of_an_export_counts(ledger: sessionmaker[Session], tmp_path: Path) -> None:
    """A bit of each byte is flipped, each line taken out, and many cuts are made: all show."""
    path, changed = tmp_path / "export", tmp_path / "changed"
    with ledger() as session:
        export_ledger(session, "digits", path)
    whole = path.read_bytes()
    assert verify_file(path).intact
    flips = (flipped(whole, place, 1 << place % 8) for place in range(len(whole)))
    lines = whole.splitlines(keepends=True)
    without = (b"".join(lines[:n] + lines[n + 1 :]) for n in range(len(lines)))
    cuts = (whole[:end] for end in range(0, len(whole), 41))
    for content in (*flips, *without, *cuts, whole + b"\n", whole + lines[-1]):
        changed.write_bytes(content)
        assert not _whole(changed), content


def test_every_byte_of_a_line_in_the_database_file_counts(
    ledger: sessionmaker[Session], tmp_path: Path
) -> None:
    """Bytes on disk, not values: the line is one record of one tree of SQLite's file."""
    path, broken = tmp_path / "lifecycle.db", tmp_path / "broken.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = path.read_bytes()
    (start,) = [n for n in range(len(content)) if content.startswith(b"digits\x02routing", n)]
    with ledger() as session:
        line = lines_of(session, "digits")[1]
    end = content.index(line.hash.encode(), start) + len(line.hash)
    broken.write_bytes(content)
    with broken.open("r+b", buffering=0) as file:
        for place in (*range(start - 16, start), *range(start, end, 3)):
            os.pwrite(file.fileno(), bytes([content[place] ^ 1]), place)
            engine = connect(f"sqlite:///{broken}")
            with sessions(engine, read_only=True)() as session:
                assert not verify_ledger(session, "digits").intact, place - start
            engine.dispose()
            os.pwrite(file.fileno(), content[place : place + 1], place)


def flipped(content: bytes, place: int, bits: int) -> bytes:
    return content[:place] + bytes([content[place] ^ bits]) + content[place + 1 :]


def _whole(path: Path) -> bool:
    try:
        return verify_file(path).intact
    except DataError:
        return False
