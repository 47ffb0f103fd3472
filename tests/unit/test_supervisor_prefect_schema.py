from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from homeostat.supervisor.prefect_schema import prepare


class Migrations:
    """Makes a database of one row, as often as it is asked."""

    def __init__(self, database: Path) -> None:
        self.database, self.runs = database, 0

    def __call__(self) -> None:
        self.runs += 1
        with closing(sqlite3.connect(self.database)) as connection:
            connection.execute("pragma journal_mode = wal")
            connection.execute("create table alembic_version (name text)")
            connection.execute("insert into alembic_version values ('last')")
            connection.commit()


def named(database: Path) -> list[tuple[str]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("select name from alembic_version").fetchall()


def prepared(tmp_path: Path, home: str) -> Migrations:
    migrations = Migrations(tmp_path / home / "prefect.db")
    prepare(migrations.database, tmp_path / "cache" / "kept.db", migrations)
    return migrations


def test_only_the_first_state_folder_of_a_machine_is_migrated(tmp_path: Path) -> None:
    made = [prepared(tmp_path, home) for home in ("one", "two")]
    assert [each.runs for each in made] == [1, 0]
    assert [named(each.database) for each in made] == [[("last",)]] * 2


def test_a_database_that_is_there_is_left_alone(tmp_path: Path) -> None:
    first = prepared(tmp_path, "one")
    with closing(sqlite3.connect(first.database)) as connection:
        connection.execute("insert into alembic_version values ('own')")
        connection.commit()
    prepared(tmp_path, "one")
    assert named(first.database) == [("last",), ("own",)]


def test_without_a_place_for_the_copy_the_database_is_made_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert named(prepared(tmp_path, "one").database) == [("last",)]
