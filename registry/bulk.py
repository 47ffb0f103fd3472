"""Many rows into one table with few statements.

A statement per row would be what a busy gateway spends most of its time on, and each would hand
Python's lock over twice: while one statement with many rows runs, other threads run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.orm import Session

from registry.columns import Table

Values = Sequence[object]

# SQLite takes 32,766 values in one statement; what is more than this is cut into powers of two,
# so that there are few statements to remember.
ROWS_PER_STATEMENT = 128
_MARKS = {"qmark": "?", "format": "%s", "pyformat": "%s"}


def insert_new_rows(
    session: Session, table: type[Table], columns: Sequence[str], rows: Sequence[Values]
) -> None:
    """Insert rows, skipping those whose unique key is taken.

    Args:
        session: Of SQLite or PostgreSQL.
        table: What is inserted into.
        columns: Names of the columns that are given.
        rows: Their values, in that order, as the mapped attributes would take them.
    """
    if not rows:
        return
    dialect = session.get_bind().dialect
    stored = list(zip(*_stored(dialect, table, columns, rows), strict=True))
    connection = session.connection()
    start = 0
    while start < len(stored):
        size = min(ROWS_PER_STATEMENT, 1 << (len(stored) - start).bit_length() - 1)
        part = stored[start : start + size]
        connection.exec_driver_sql(
            _statement(dialect, table, tuple(columns), size),
            tuple(value for row in part for value in row),
        )
        start += size


def _stored(
    dialect: Dialect, table: type[Table], columns: Sequence[str], rows: Sequence[Values]
) -> list[list[object]]:
    """The values of each column as the driver takes them."""
    found: list[list[object]] = []
    for name, values in zip(columns, zip(*rows, strict=True), strict=True):
        kind = table.__table__.columns[name].type
        convert = kind.dialect_impl(dialect).bind_processor(dialect)
        if convert is None:
            found.append(list(values))
        elif isinstance(values[0], datetime):
            found.append(_convert_moments(convert, values))
        else:
            found.append([convert(value) for value in values])
    return found


def _convert_moments(convert: Callable[[Any], object], values: Values) -> list[object]:
    """As `convert` does; rows of one batch share their moment, which is converted once."""
    known: dict[object, object] = {}
    found = []
    for value in values:
        if value not in known:
            known[value] = convert(value)
        found.append(known[value])
    return found


@lru_cache(maxsize=64)
def _statement(dialect: Dialect, table: type[Table], columns: tuple[str, ...], rows: int) -> str:
    quote = dialect.identifier_preparer.quote
    names = ", ".join(quote(name) for name in columns)
    line = "(" + ", ".join([_MARKS[dialect.paramstyle]] * len(columns)) + ")"
    lines = ", ".join([line] * rows)
    # All of it is names of our own tables and placeholders.
    return (
        f"INSERT INTO {quote(table.__tablename__)} ({names}) VALUES {lines} ON CONFLICT DO NOTHING"  # noqa: S608 - of our own names
    )
