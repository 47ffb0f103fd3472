"""`python -m serving`, started quickly."""

from __future__ import annotations

import importlib
import sys

from homeostat.supervisor.quick import starting


def main() -> int:
    """Serve until told to stop; the exit code."""
    with starting():
        serving = importlib.import_module("serving.__main__")
    return int(serving.main())


if __name__ == "__main__":
    sys.exit(main())
