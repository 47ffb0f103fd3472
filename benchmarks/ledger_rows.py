"""What fills the databases of `benchmarks.ledger`: rows in the order of their keys, loaded in bulk.

Every routing is a line of a real chain, every prediction is answered by the routing of its moment,
and the peer has its tags in a table of MLflow's own shape and key.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import psycopg
import sqlalchemy
from psycopg import sql
from sqlalchemy import make_url
from sqlalchemy.dialects import sqlite

from registry.columns import spell
from registry.json_text import canonical
from registry.ledger import FIELDS, FIRST_HASH, digest_of

MODEL = "digits"
START = datetime(2024, 1, 1, tzinfo=UTC)
EVERY = timedelta(seconds=60)  # between two routings: a million are two years
VERSIONS = 500
STEP = 50_000
TAGS = """CREATE TABLE model_version_tags (
    key VARCHAR(250) NOT NULL, value VARCHAR(5000), name VARCHAR(256) NOT NULL,
    version INTEGER NOT NULL, PRIMARY KEY (key, name, version))"""

Rows = Iterator[tuple[object, ...]]
Insert = Callable[[str, tuple[str, ...], Rows], None]


def fill(url: str, releases: int, predictions: int) -> None:
    """Every table that is asked, of the database with the schema 0004 at an address."""
    load = {"sqlite": fill_sqlite, "postgresql": fill_postgres}
    load[make_url(url).get_backend_name()](url, releases, predictions)


def fill_sqlite(url: str, releases: int, predictions: int) -> None:
    """By prepared statements in long transactions, with no journal."""
    with closing(sqlite3.connect(str(make_url(url).database), isolation_level=None)) as database:
        for setting in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-400000"):
            database.execute(f"PRAGMA {setting}")
        database.execute(TAGS)

        def insert(table: str, columns: tuple[str, ...], rows: Rows) -> None:
            named = sqlalchemy.table(table, *map(sqlalchemy.column, columns))
            statement = str(named.insert().compile(dialect=sqlite.dialect()))
            while part := list(islice(rows, STEP)):
                database.execute("BEGIN")
                database.executemany(statement, part)
                database.execute("COMMIT")

        fill_tables(insert, releases, predictions)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("ANALYZE")


def fill_postgres(url: str, releases: int, predictions: int) -> None:
    """By COPY, then VACUUM and ANALYZE as the server's own housekeeping would do in time."""
    with psycopg.connect(url, autocommit=True) as database:
        database.execute("SET TimeZone = 'UTC'")
        database.execute("SET synchronous_commit = off")
        database.execute(TAGS)

        def insert(table: str, columns: tuple[str, ...], rows: Rows) -> None:
            names = sql.SQL(", ").join(map(sql.Identifier, columns))
            statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)
            with database.cursor().copy(statement) as copy:
                for row in rows:
                    copy.write_row(row)

        fill_tables(insert, releases, predictions)
        database.execute("VACUUM ANALYZE")


def fill_tables(insert: Insert, releases: int, predictions: int) -> None:
    """Each table in the order of its key, so that no tree is torn."""
    insert("ledger", FIELDS, routings(releases))
    columns = ("model", "version", "generation", "digest", "role", "from_at", "to_at")
    insert("releases", (*columns, "by", "why", "ended_why"), held(releases))
    insert("model_version_tags", ("key", "value", "name", "version"), tags(releases))
    log = ("id", "model", "version", "generation", "arm", "entity", "at", "row", "output")
    insert("predictions", (*log, "columns", "answer"), answers(releases, predictions))
    insert("shadows", ("prediction_id", "version", "output"), shadows(releases, predictions))


def routings(releases: int) -> Rows:
    """A chain of promotions, one a minute."""
    previous, before = FIRST_HASH, None
    for number in range(releases):
        version = version_of(number)
        split = {"champion": version, "challenger": None, "standby": None, "phase": "steady"}
        after = canonical(split | {"canary_share": 0.0, "digests": {str(version): digest(version)}})
        line: dict[str, Any] = {
            "model": MODEL,
            "line": number + 1,
            "kind": "routing",
            "generation": number + 1,
            "version": version,
            "digest": digest(version),
            "at": spell(START + EVERY * number),
            "actor": "benchmark",
            "reason": "It earned its traffic.",
            "before": before,
            "after": after,
            "evidence": '{"rows":2000}',
            "previous_hash": previous,
        }
        line["hash"] = previous = digest_of(line)
        before = after
        yield tuple(line[name] for name in FIELDS)


def held(releases: int) -> Rows:
    """Each routing's release; the last is open."""
    for number in range(releases):
        version = version_of(number)
        last = number + 1 == releases
        ended = None if last else stored(START + EVERY * (number + 1))
        yield (
            *(MODEL, version, number + 1, digest(version), "champion"),
            *(stored(START + EVERY * number), ended, "benchmark", "It earned it.", ""),
        )


def tags(releases: int) -> Rows:
    """The peer: since when each version serves; one version for each release, as tags allow."""
    for number in range(releases):
        yield "lifecycle.since", spell(START + EVERY * number), MODEL, number + 1


def answers(releases: int, predictions: int) -> Rows:
    """Predictions evenly over the time, each by the routing of its moment."""
    output = bytes(40)
    for number in range(predictions):
        routing = number * releases // predictions
        yield (
            *(id_of(number), MODEL, version_of(routing), routing + 1, "champion", ""),
            *(stored(at_of(number, releases, predictions)), "[0.5]", output, 10, "{}"),
        )


def shadows(releases: int, predictions: int) -> Rows:
    """What the version before answered unseen, to one prediction in ten."""
    output = bytes(40)
    for number in range(0, predictions, 10):
        yield id_of(number), version_of(number * releases // predictions + VERSIONS - 1), output


def at_of(number: int, releases: int, predictions: int) -> datetime:
    """When a prediction was answered."""
    return START + timedelta(seconds=EVERY.total_seconds() * releases * number / predictions)


def id_of(number: int) -> str:
    """Grows as a UUIDv7 does."""
    return f"{number:08x}-0000-7000-8000-000000000000"


def version_of(number: int) -> int:
    """Which version a routing makes champion."""
    return number % VERSIONS + 1


def digest(version: int) -> str:
    """Of a version's artifact."""
    return f"{version:064x}"


def stored(moment: datetime) -> str:
    """A moment in UTC as SQLite keeps it in the tables with no chain, and PostgreSQL reads it."""
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")
