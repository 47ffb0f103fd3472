"""Prefect's empty database, made once a machine and copied from then on.

To make it, Prefect runs some hundred migrations: a third of a first start. What they leave is the
same each time and holds no row but the name of the last one, so a copy of it is as good.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_folder() -> Path:
    """Where this user's programs keep what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "homeostat"


def prepare(database: Path, kept: Path, migrate: Callable[[], None]) -> None:
    """Make a database that is not there yet, from the kept copy where there is one.

    Nothing here can keep the server from its start: it migrates whatever it finds, and makes the
    database itself where there is none.

    Args:
        database: Of the server, a file of SQLite.
        kept: The copy, made here where it is missing.
        migrate: Makes the database.
    """
    if database.exists():
        return
    with contextlib.suppress(OSError, sqlite3.Error):
        database.parent.mkdir(parents=True, exist_ok=True)
        if kept.exists():
            _put(database, lambda path: shutil.copyfile(kept, path))
            return
        migrate()
        kept.parent.mkdir(parents=True, exist_ok=True)
        _put(kept, lambda path: _snapshot(database, path))


def _snapshot(database: Path, copy: Path) -> None:
    # Not a copy of the file: part of it may still be in the log beside it.
    with (
        contextlib.closing(sqlite3.connect(database)) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)


def _put(target: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that whoever looks finds all of it or nothing."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        whole = Path(folder) / target.name
        write(whole)
        whole.replace(target)
