"""The schema comes from the migrations, on both databases, and keeps data both ways."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text
from sqlalchemy.orm import Session, sessionmaker

import registry
from homeostat.errors import StartError, Unavailable
from registry import (
    check_schema,
    connect,
    downgrade,
    sessions,
    transaction,
    upgrade,
)
from registry.tables import LeaseRow, Table

NOON = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
MIGRATIONS = Path(registry.__file__).parent.parent / "alembic"
NEWEST = str(ScriptDirectory(str(MIGRATIONS)).get_current_head())
LATER_MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision = "later"
down_revision = "{newest}"


def upgrade():
    with op.batch_alter_table("leases") as leases:
        leases.add_column(sa.Column("room", sa.Text(), server_default="attic", nullable=False))
    with op.batch_alter_table("labels") as labels:
        labels.alter_column("source", existing_type=sa.Text(), nullable=True)


def downgrade():
    with op.batch_alter_table("labels") as labels:
        labels.alter_column("source", existing_type=sa.Text(), nullable=False)
    with op.batch_alter_table("leases") as leases:
        leases.drop_column("room")
"""


@pytest.fixture
def later_migrations(tmp_path: Path) -> Path:
    """Our migrations and one more, as a later release will bring."""
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder)
    later = LATER_MIGRATION.replace("{newest}", NEWEST)
    (folder / "versions" / "later.py").write_text(later)
    return folder


def test_the_models_equal_the_migrations(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, Table.metadata) == []


def test_a_migration_up_and_down_keeps_the_data(
    empty_database_url: str, later_migrations: Path
) -> None:
    upgrade(empty_database_url)
    before = _fill(empty_database_url)
    upgrade(empty_database_url, migrations=later_migrations)
    assert "room" in _columns(empty_database_url, "leases")
    assert _content(empty_database_url) == before
    downgrade(empty_database_url, NEWEST, migrations=later_migrations)
    assert "room" not in _columns(empty_database_url, "leases")
    assert _content(empty_database_url) == before
    upgrade(empty_database_url, migrations=later_migrations)
    assert _content(empty_database_url) == before


def test_down_to_the_base_leaves_nothing_and_up_again_works(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    downgrade(empty_database_url, "base")
    engine = connect(empty_database_url)
    assert inspect(engine).get_table_names() == ["alembic_version"]
    upgrade(empty_database_url)
    check_schema(engine)
    engine.dispose()


def test_a_database_that_is_not_there_is_not_made_by_looking_for_it(tmp_path: Path) -> None:
    path = tmp_path / "lifecycle.db"
    engine = connect(f"sqlite:///{path}")
    with pytest.raises(Unavailable, match=r"There is no lifecycle database at .*HOMEOSTAT_CONFIG"):
        check_schema(engine)
    assert not path.exists()


def test_two_processes_may_upgrade_at_once(empty_database_url: str) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            upgrade(empty_database_url)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    engine = connect(empty_database_url)
    check_schema(engine)
    engine.dispose()


def test_a_new_file_that_somebody_writes_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    done = threading.Timer(0.2, other.execute, ("COMMIT",))
    done.start()
    upgrade(f"sqlite:///{path}")
    done.join()
    other.close()
    engine = connect(f"sqlite:///{path}")
    check_schema(engine)
    engine.dispose()


def test_an_empty_database_is_refused_with_the_command_that_mends_it(
    empty_database_url: str,
) -> None:
    engine = connect(empty_database_url)
    with pytest.raises(Unavailable) as refusal:
        check_schema(engine)
    assert "homeostat db upgrade" in refusal.value.remedy
    engine.dispose()


def test_moments_come_back_aware_in_utc_with_microseconds(
    maker: sessionmaker[Session],
) -> None:
    elsewhere = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
    with maker.begin() as session:
        session.add(LeaseRow(name="a", holder="x", token=1, expires_at=elsewhere))
    with maker() as session:
        row = session.get(LeaseRow, "a")
        assert row is not None
        assert row.expires_at == NOON
        assert row.expires_at.tzinfo is UTC
        assert row.expires_at.microsecond == 123456


def test_a_moment_without_a_zone_is_refused(session: Session) -> None:
    session.add(LeaseRow(name="a", holder="x", token=1, expires_at=NOON.replace(tzinfo=None)))
    with pytest.raises(Exception, match="no time zone"):
        session.flush()


def test_a_block_that_raises_keeps_nothing(maker: sessionmaker[Session]) -> None:
    def work() -> None:
        with transaction(maker) as session:
            session.add(LeaseRow(name="a", holder="x", token=1, expires_at=NOON))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()
    with maker() as session:
        assert session.get(LeaseRow, "a") is None


def test_reading_goes_on_while_somebody_writes(engine: Engine) -> None:
    writing, reading = sessions(engine), sessions(engine, read_only=True)
    with writing.begin() as writer:
        writer.add(LeaseRow(name="a", holder="x", token=1, expires_at=NOON))
        writer.flush()
        with reading() as reader:
            assert reader.get(LeaseRow, "a") is None
    with reading() as reader:
        assert reader.get(LeaseRow, "a") is not None


def test_a_database_that_is_away_is_unavailable(tmp_path: Path) -> None:
    engine = connect("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(Unavailable), transaction(sessions(engine)) as session:
        session.execute(text("SELECT 1"))
    with pytest.raises(Unavailable):
        upgrade("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(Unavailable):
        check_schema(connect(f"sqlite:///{tmp_path / 'no' / 'folder' / 'file.db'}"))


def test_another_kind_of_database_cannot_be_set() -> None:
    with pytest.raises(StartError, match="mysql"):
        connect("mysql://somewhere/else")


def test_migrations_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="migrations"):
        upgrade(f"sqlite:///{tmp_path / 'a.db'}", migrations=tmp_path)


def _fill(url: str) -> dict[str, list[tuple[object, ...]]]:
    engine = connect(url)
    with engine.begin() as connection:
        connection.execute(
            Table.metadata.tables["leases"].insert(),
            [{"name": f"l{i}", "holder": "h", "token": i, "expires_at": NOON} for i in range(5)],
        )
        connection.execute(
            Table.metadata.tables["labels"].insert(),
            [
                {
                    "prediction_id": f"p{i}",
                    "model": "m",
                    "value": {"deep": [i, None, "ä"]},
                    "at": NOON,
                    "source": "s",
                    "status": status,
                }
                for i in range(3)
                for status in ("accepted", "conflict", "conflict")
            ],
        )
    engine.dispose()
    return _content(url)


def _content(url: str) -> dict[str, list[tuple[object, ...]]]:
    engine = connect(url)
    with engine.connect() as connection:
        content = {
            name: [
                tuple(row)
                for row in connection.execute(table.select().order_by(*table.primary_key.columns))
            ]
            for name, table in Table.metadata.tables.items()
        }
    engine.dispose()
    return content


def _columns(url: str, table: str) -> set[str]:
    engine = connect(url)
    names = {column["name"] for column in inspect(engine).get_columns(table)}
    engine.dispose()
    return names
