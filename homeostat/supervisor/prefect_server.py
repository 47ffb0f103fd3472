"""Prefect's own command line (`prefect server start ...`), started quickly."""

from __future__ import annotations

import runpy
import sys

from homeostat.supervisor.quick import collect_rarely


def main() -> None:
    """Run Prefect's command with the arguments of this process."""
    collect_rarely()
    sys.argv[0] = "prefect"
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
