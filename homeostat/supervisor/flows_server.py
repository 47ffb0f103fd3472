"""`python -m flows`, started before Prefect's server answers.

Importing Prefect takes seconds; done while its server starts, they cost no time. Registering
the deployments then waits for the server.
"""

from __future__ import annotations

import importlib
import time

from flows.__main__ import main as serve
from flows.environment import prepare
from homeostat.settings import get_settings
from homeostat.supervisor.parts import answers
from homeostat.supervisor.quick import starting

_PAUSE = 0.1


def main() -> None:
    """Serve the deployments until told to stop; the supervisor's deadline bounds the wait."""
    settings = get_settings()
    prepare(settings)
    with starting():
        importlib.import_module("flows.deployments")
    while not answers(f"{settings.prefect_address.rstrip('/')}/health"):
        time.sleep(_PAUSE)
    serve()


if __name__ == "__main__":
    main()
