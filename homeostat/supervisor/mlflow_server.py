"""MLflow's server as one process.

`mlflow server` imports MLflow to prepare the database and starts a second process that imports
it again: 5 s and 250 MB that a machine of two cores feels. This does the same steps once. The
names are those of MLflow's own command (mlflow.cli.server, 3.17), which constraints.txt pins.
"""

from __future__ import annotations

import argparse
import os

from homeostat.supervisor.quick import collect_rarely


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", required=True, help="SQLAlchemy address")
    parser.add_argument("--artifacts", required=True, help="folder")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", required=True, type=int)
    options = parser.parse_args()

    collect_rarely()
    from mlflow.server import constants

    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: options.database,
        constants.REGISTRY_STORE_URI_ENV_VAR: options.database,
        constants.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        constants.ARTIFACTS_DESTINATION_ENV_VAR: options.artifacts,
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
    }
    import uvicorn
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores(options.database, options.database, "mlflow-artifacts:/")
    uvicorn.run(
        "mlflow.server.fastapi_app:app",
        host=options.host,
        port=options.port,
        # The controller polls every second: its lines would be all that the log holds.
        access_log=False,
    )


if __name__ == "__main__":
    main()
