"""Prefect's own command line (`prefect server start ...`), started quickly."""

from __future__ import annotations

import asyncio
import os
import runpy
import sys
from importlib.metadata import version
from pathlib import Path

from homeostat.supervisor.prefect_schema import cache_folder, prepare
from homeostat.supervisor.quick import collect_rarely


def main() -> None:
    """Run Prefect's command with the arguments of this process."""
    collect_rarely()
    prepare(
        Path(os.environ["PREFECT_HOME"]) / "prefect.db",
        cache_folder() / f"prefect-{version('prefect')}.db",
        _migrate,
    )
    sys.argv[0] = "prefect"
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


def _migrate() -> None:
    from prefect.server.database import provide_database_interface

    asyncio.run(provide_database_interface().create_db())


if __name__ == "__main__":
    main()
