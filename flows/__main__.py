"""`python -m flows`: serve the deployments until told to stop."""

from __future__ import annotations

import asyncio
import sys

from flows.environment import prepare
from homeostat.errors import HomeostatError
from homeostat.settings import get_settings


def main() -> None:
    """Serve the deployments of this installation."""
    settings = get_settings()
    prepare(settings)
    # Only now: Prefect reads its settings when it is imported.
    from flows.deployments import serve

    asyncio.run(serve(settings))


if __name__ == "__main__":
    try:
        main()
    except HomeostatError as error:
        sys.exit(f"{error.code}: {error}")
