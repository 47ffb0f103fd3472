"""What SQLite and PostgreSQL say alike but SQLAlchemy spells apart."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from sqlalchemy import Select, TextClause, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from registry.columns import Table

# SQLite takes 32,766 values in one statement, PostgreSQL 65,535.
VALUES_PER_QUERY = 10_000

Insert = postgresql.Insert | sqlite.Insert


def insert(session: Session, table: type[Table]) -> Insert:
    """An INSERT of the session's own dialect, which knows ON CONFLICT."""
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def insert_new(
    session: Session,
    table: type[Table],
    *columns: Any,  # noqa: ANN401 - a mapped attribute, of whatever type it maps
    where: TextClause | None = None,
) -> Insert:
    """An INSERT that skips rows whose `columns` (a unique key) are taken.

    Args:
        session: Whose dialect it is made for.
        table: What is inserted into.
        columns: Of the unique key; none means any unique key.
        where: The condition of a partial unique index.
    """
    statement = insert(session, table)
    if not columns:
        return statement.on_conflict_do_nothing()
    return statement.on_conflict_do_nothing(index_elements=list(columns), index_where=where)


def columns_of(table: type[Table]) -> Select[*tuple[Any, ...]]:
    """A SELECT of all columns as plain values, tied to no session."""
    return select(*table.__table__.columns)


def parts_of(ids: Collection[str]) -> Iterator[list[str]]:
    """Cut many values into lists that one statement may carry."""
    every = list(ids)
    for start in range(0, len(every), VALUES_PER_QUERY):
        yield every[start : start + VALUES_PER_QUERY]
