"""Real MLflow servers for the integration tests: one for all of them, and one of a test's own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from tests.asking import ask

# Nothing here needs its job runner, which is more processes to start and stop.
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
MLFLOW_DEADLINE = 240.0  # seconds: a busy machine needs more than a minute


@dataclass(frozen=True)
class MlflowServer:
    """A running MLflow server: its address, and the folder that it keeps everything in."""

    url: str
    folder: Path


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A real MLflow server with its artifact proxy, on a free port of the loopback."""
    folder = tmp_path_factory.mktemp("mlflow")
    with _run_mlflow(folder) as url:
        yield MlflowServer(url, folder)


@pytest.fixture
def mlflow_url(mlflow_server: MlflowServer) -> str:
    """The address of `mlflow_server`."""
    return mlflow_server.url


@pytest.fixture
def mlflow_folder(mlflow_server: MlflowServer) -> Path:
    """Where `mlflow_server` keeps its database, `artifacts/` and `mlflow.log`."""
    return mlflow_server.folder


@pytest.fixture(scope="session")
def run_mlflow() -> Callable[..., AbstractContextManager[str]]:
    """For tests that stop or set their server: runs one that keeps everything in a folder.

    Its database is SQLite there unless one is given; what else is given by name is its
    environment besides ours.
    """
    return _run_mlflow


@contextmanager
def _run_mlflow(folder: Path, database: str = "", **variables: str) -> Iterator[str]:
    port = _free_port()
    database = database or f"sqlite:///{folder / 'mlflow.db'}"
    # MLflow's own server in one process: its command would import all of it twice.
    command = [sys.executable, "-m", "homeostat.supervisor.mlflow_server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--database", database]
    command += ["--artifacts", str(folder / "artifacts")]
    url = f"http://127.0.0.1:{port}"
    with (folder / "mlflow.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, env=os.environ | QUIET | variables
        )
        try:
            _wait_for(f"{url}/health", process, folder / "mlflow.log")
            yield url
        finally:
            _stop(process)


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + MLFLOW_DEADLINE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            if ask("GET", url, timeout=2.0).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise AssertionError(f"{url} did not answer:\n{log.read_text()[-4000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a server of ours and the workers that it started."""
    try:
        family = [*psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
    _, alive = psutil.wait_procs(family, timeout=5)
    for worker in alive:
        worker.kill()
