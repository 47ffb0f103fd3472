"""What Prefect and MLflow read from the environment when they are imported.

No import of either here: these variables must be set first.
"""

from __future__ import annotations

import os

from homeostat.settings import Settings


def prepare(settings: Settings) -> None:
    """Point this process, and the flow runs that it starts, at the servers of the settings."""
    os.environ["PREFECT_API_URL"] = settings.prefect_address
    for name, value in _defaults(settings).items():
        os.environ.setdefault(name, value)


def _defaults(settings: Settings) -> dict[str, str]:
    wanted = {
        # MLflow's client would retry in silence for minutes; the tasks retry where one sees it.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
    if not settings.telemetry:
        wanted |= {"DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return wanted
