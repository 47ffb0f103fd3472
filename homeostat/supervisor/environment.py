"""The environment that each server gets: what `up` saw, as few secrets as it needs."""

from __future__ import annotations

import json
from collections.abc import Mapping

from homeostat.settings import PREFIX, Settings, config_path

_SECRET_FIELDS = ("token", "database_url")


def settings_environment(settings: Settings) -> dict[str, str]:
    """The settings as variables, so that a child sees exactly what this process saw.

    Addresses are resolved, the state folder is absolute. The token is there only where it was
    set: otherwise each child reads the one in the state folder.
    """
    resolved = {
        "state_dir": str(settings.state_dir.resolve()),
        "mlflow_url": settings.mlflow_address,
        "prefect_url": settings.prefect_address,
        "database_url": settings.database,
        "models": json.dumps(
            {name: policy.model_dump(mode="json") for name, policy in settings.models.items()}
        ),
    }
    if token := settings.token.get_secret_value():
        resolved["token"] = token
    plain = settings.model_dump(mode="json", exclude={*resolved, *_SECRET_FIELDS})
    variables = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in {**plain, **resolved}.items()
    }
    return {f"{PREFIX}{name}".upper(): value for name, value in variables.items()} | {
        f"{PREFIX}CONFIG": str(config_path().resolve())
    }


def server_environment(settings: Settings, base: Mapping[str, str]) -> dict[str, str]:
    """For MLflow's and Prefect's servers: nothing of ours, nothing that was set for clients."""
    kept = {
        name: value
        for name, value in base.items()
        if not name.startswith((PREFIX, "MLFLOW_", "_MLFLOW_", "PREFECT_"))
    }
    return kept | _telemetry(settings) | _python()


def own_environment(settings: Settings, base: Mapping[str, str]) -> dict[str, str]:
    """For the gateway and the flows.

    What was set for MLflow's and Prefect's clients (a password, a key) stays where their server
    is a given one, and goes where it is our own.
    """
    foreign = [PREFIX]
    if not settings.mlflow_url:
        foreign.append("MLFLOW_")
    if not settings.prefect_url:
        foreign.append("PREFECT_")
    kept = {name: value for name, value in base.items() if not name.startswith(tuple(foreign))}
    prefect = {"PREFECT_API_URL": settings.prefect_address}
    if not settings.prefect_url:
        prefect["PREFECT_HOME"] = str(settings.state_dir.resolve() / "prefect")
    ours = settings_environment(settings)
    return kept | prefect | ours | _telemetry(settings) | _python()


def _telemetry(settings: Settings) -> dict[str, str]:
    if settings.telemetry:
        return {}
    return {
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }


def _python() -> dict[str, str]:
    # A folder called models/ where `up` was called must not stand in for ours.
    return {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
