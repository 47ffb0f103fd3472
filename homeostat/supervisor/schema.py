"""Whether the lifecycle database is at its newest migration, told without SQLAlchemy or Alembic.

Importing those takes two seconds of a start that has, nearly always, nothing to migrate.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path
from urllib.parse import quote

from homeostat.shipped import shipped

_SQLITE = "sqlite:///"
_ASSIGNMENT = re.compile(r"^(revision|down_revision)\b[^=\n]*=\s*(.+)$", re.MULTILINE)
_NAME = re.compile(r"[\"']([^\"']+)[\"']")


def is_current(url: str, migrations: Path | None = None) -> bool:
    """Whether nothing is to be migrated; False where that cannot be told this way.

    Args:
        url: Of the lifecycle database; only of a SQLite file can it be told.
        migrations: The folder of the migrations; None: of those that come with Homeostat.
    """
    if not url.startswith(_SQLITE):
        return False
    path = Path(url.removeprefix(_SQLITE))
    wanted = _heads(migrations or shipped("alembic", "env.py") / "versions")
    if not wanted or not path.is_file():
        return False
    address = f"file:{quote(str(path.resolve()))}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
            rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error:
        return False
    return {str(row[0]) for row in rows} == wanted


def _heads(migrations: Path) -> set[str]:
    """The migrations that no other one builds on."""
    made: set[str] = set()
    built_on: set[str] = set()
    for file in migrations.glob("*.py"):
        for name, value in _ASSIGNMENT.findall(file.read_text()):
            (made if name == "revision" else built_on).update(_NAME.findall(value))
    return made - built_on
