"""The lifecycle database: its engine, its sessions, its migrations.

The functions of this room take a session and flush; who opens the session commits. SQLite is
one writer at a time, so a writing session there takes the write lock when it begins (BEGIN
IMMEDIATE): a transaction that reads first and writes later would otherwise fail at once with
"database is locked" when another one wrote in between, without waiting.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from homeostat.errors import StartError, Unavailable
from homeostat.shipped import shipped
from registry import postgres
from registry.json_text import from_json, to_json

BUSY_MILLISECONDS = 10_000
UPGRADE_REMEDY = "Run `homeostat db upgrade`."
# One number for all processes that migrate: PostgreSQL's advisory lock is taken under it.
MIGRATION_LOCK = 0x686F6D656F


def connect(url: str, *, answer_seconds: float | None = None) -> Engine:
    """An engine for the lifecycle database at `url`, SQLite or PostgreSQL (psycopg 3).

    Nothing is opened yet: a database that is away shows at the first use.

    Args:
        url: The database's address.
        answer_seconds: How long PostgreSQL may say nothing before it counts as away, as
            `registry.postgres` has it; None: any time.

    Raises:
        StartError: the address is not one of SQLite or PostgreSQL.
    """
    address = _address(url)
    options: dict[str, Any] = {
        "json_serializer": to_json,
        "json_deserializer": from_json,
    }
    if address.get_backend_name() == "sqlite":
        engine = create_engine(
            address, connect_args={"timeout": BUSY_MILLISECONDS / 1000}, **options
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    engine = create_engine(address, pool_pre_ping=True, **options)
    postgres.prepare(engine, answer_seconds)
    return engine


def sessions(engine: Engine, *, read_only: bool = False) -> sessionmaker[Session]:
    """A maker of sessions.

    Args:
        engine: From `connect`.
        read_only: Sessions that never write: on SQLite they wait for no writer and hold none up.
    """
    if read_only:
        engine = engine.execution_options(read_only=True, postgresql_readonly=True)
    return sessionmaker(engine, expire_on_commit=False)


@contextlib.contextmanager
def transaction(maker: sessionmaker[Session]) -> Iterator[Session]:
    """One transaction: committed at the end of the block, rolled back when it raises.

    Raises:
        Unavailable: the database is away or locked; nothing of the block was kept.
    """
    try:
        with maker.begin() as session:
            yield session
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise _unavailable(error) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise _unavailable(error) from error
        raise


def upgrade(url: str, revision: str = "head", *, migrations: Path | None = None) -> None:
    """Bring the schema of the database at `url` up to `revision`, keeping its data.

    Two processes may do this at once: the second waits and finds nothing left to do.

    Raises:
        Unavailable: the database is away.
        StartError: the folder of the migrations is not beside this package.
    """
    database = _address(url).database
    if _address(url).get_backend_name() == "sqlite" and database and database != ":memory:":
        Path(database).parent.mkdir(parents=True, exist_ok=True)
    _migrate(url, "upgrade", revision, migrations)


def downgrade(url: str, revision: str, *, migrations: Path | None = None) -> None:
    """Take the schema of the database at `url` down to `revision` (`base`: nothing is left).

    Raises:
        Unavailable: the database is away.
        StartError: the folder of the migrations is not beside this package.
    """
    _migrate(url, "downgrade", revision, migrations)


def check_schema(engine: Engine) -> None:
    """Refuse a database whose schema is not the one that this code was written for.

    Raises:
        Unavailable: it is away, older or newer; the remedy says what to run.
    """
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    file = engine.url.database or ""
    if engine.dialect.name == "sqlite" and file != ":memory:" and not Path(file).exists():
        raise Unavailable(  # opening it would make it
            f"There is no lifecycle database at {file}.",
            remedy="Run this in the folder of the installation's homeostat.toml, or set "
            "HOMEOSTAT_CONFIG to that file; `homeostat db upgrade` makes one.",
        )
    wanted = set(ScriptDirectory(str(_folder(None))).get_heads())
    try:
        with engine.connect() as connection:
            present = set(MigrationContext.configure(connection).get_current_heads())
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise _unavailable(error) from error
    if present != wanted:
        raise Unavailable(
            f"The lifecycle database is at schema {', '.join(sorted(present)) or 'nothing'},"
            f" not at {', '.join(sorted(wanted))}.",
            remedy=UPGRADE_REMEDY,
            present=sorted(present),
            wanted=sorted(wanted),
        )


def _address(url: str) -> URL:
    address = make_url(url)
    backend = address.get_backend_name()
    if backend in ("postgresql", "postgres"):
        return address.set(drivername="postgresql+psycopg")
    if backend == "sqlite":
        return address.set(drivername="sqlite+pysqlite")
    raise StartError(
        f"A lifecycle database of kind '{backend}' is not known here.",
        remedy="Give an address that begins with sqlite:/// or postgresql://.",
    )


def _prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # The driver must begin no transactions of its own: `_begin_sqlite` says how each begins.
    connection.isolation_level = None
    cursor = connection.cursor()
    # NORMAL keeps every commit through the death of the process; only a power cut may lose the
    # newest ones, and never the file.
    for setting in (
        f"busy_timeout={BUSY_MILLISECONDS}",
        "synchronous=NORMAL",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {setting}")
    _keep_a_write_ahead_log(cursor)
    cursor.close()


def _keep_a_write_ahead_log(cursor: DBAPICursor) -> None:
    """Set the mode of the file, which lasts.

    A new file's mode does not change while somebody else writes it or changes it, and SQLite does
    not wait for that, whatever `busy_timeout` says.
    """
    until = time.monotonic() + BUSY_MILLISECONDS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    reads = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _unavailable(error: Exception) -> Unavailable:
    cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    return Unavailable(
        f"The lifecycle database does not answer: {cause}.",
        remedy="See that it runs and that HOMEOSTAT_DATABASE_URL is its address.",
    )


def _folder(given: Path | None) -> Path:
    folder = given or shipped("alembic", "env.py")
    if not (folder / "env.py").is_file():
        raise StartError(
            f"The database's migrations are not in {folder}.",
            remedy="Run from a checkout, or install Homeostat anew: its wheel carries them.",
        )
    return folder


def _migrate(url: str, direction: str, revision: str, folder: Path | None) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_folder(folder)).replace("%", "%%"))
    engine = connect(url)
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(
                    text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK}
                )
            config.attributes["connection"] = connection
            getattr(command, direction)(config, revision)
    except (OperationalError, InterfaceError) as error:
        raise _unavailable(error) from error
    finally:
        engine.dispose()
