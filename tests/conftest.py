"""What holds for every test."""

from __future__ import annotations

import os

# Read by torch when it is first imported: the nets here are so small that a second thread
# only waits, and on a busy machine for long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# MLflow's client starts a thread for its telemetry that changes the environment while others read
# it; the flows have it off too.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
