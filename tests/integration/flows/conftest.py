"""An installation for the flows: a real MLflow, a real Prefect server, a real database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, temporary_settings

from homeostat.settings import Settings, get_settings
from homeostat.supervisor import free_ports
from models import read_dataset
from registry import (
    Incident,
    LabelItem,
    MlflowVersions,
    PredictionRecord,
    connect,
    log_predictions,
    raise_signal,
    record_labels,
    retrain_running,
    sessions,
    transaction,
    upgrade,
)
from tests.asking import ask

DEADLINE = 120.0  # seconds: a busy machine
TABLES = {"epochs": 10, "retrain": {"cool_down_seconds": 0.0}}


class Site:
    """One test's installation: its settings, its database, its MLflow."""

    def __init__(self, settings: Settings, prefect: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = settings
        self.prefect = prefect
        self._monkeypatch = monkeypatch
        self.versions = MlflowVersions(settings.mlflow_address, timeout=30.0)
        self.maker = sessions(connect(settings.database))
        (self.model,) = settings.models

    def aliases(self) -> dict[str, int]:
        return self.versions.aliases(self.model)

    def tags(self, version: int) -> dict[str, str]:
        return self.versions.version_tags(self.model, version)

    def mlflow(self, route: str, **query: str) -> dict[str, Any]:
        address = f"{self.settings.mlflow_address}/api/2.0/mlflow/{route}"
        answer = ask("GET", address, params=query, timeout=30.0)
        answer.raise_for_status()
        return dict(answer.json())

    def log_digits(self, count: int, slant: float, at: datetime, start: int = 0) -> None:
        """Log answered and labelled digits, their rows pushed sideways by `slant`."""
        digits = read_dataset("builtin:digits", "label")
        chosen = range(start, start + count)
        records = [
            PredictionRecord(
                id=str(uuid.uuid4()),
                model=self.model,
                version=1,
                generation=1,
                arm="champion",
                entity="",
                at=at + timedelta(milliseconds=10 * order),
                row=slanted(digits.rows[index], slant),
                output=np.zeros(10, dtype=np.float32),
                answer={"prediction": 0, "confidence": 1.0},
            )
            for order, index in enumerate(chosen)
        ]
        labels = [
            LabelItem(record.id, digits.labels[index])
            for record, index in zip(records, chosen, strict=True)
        ]
        with transaction(self.maker) as session:
            log_predictions(session, records)
            record_labels(session, labels, at + timedelta(minutes=1))

    def open_incident(self, since: datetime) -> Incident:
        from monitoring import Signal, Triage

        signal = Signal("loss", "loss", 20.0, 11.5, 400, 100, {"since_at": since.isoformat()})
        with transaction(self.maker) as session:
            return raise_signal(
                session, self.model, 1, signal, Triage("page", "retrain", "it fell"), since, ""
            )

    @contextmanager
    def served(self, folder: Path) -> Iterator[psutil.Process]:
        """`python -m flows`, started in another folder than the checkout."""
        with (folder / "flows.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "flows"], cwd=folder, stdout=log, stderr=log
            )
            try:
                yield psutil.Process(process.pid)
            finally:
                stop(process)

    def flow_processes(self, runner: psutil.Process) -> list[psutil.Process]:
        return [child for child in runner.children(recursive=True) if _runs_flow(child)]

    def deployment(self, name: str) -> dict[str, Any] | None:
        answer = ask("GET", f"{self.prefect}/deployments/name/{name}/{name}", timeout=30.0)
        return dict(answer.json()) if answer.is_success else None

    def start(self, name: str, parameters: dict[str, str]) -> str:
        found = self.deployment(name)
        assert found is not None
        address = f"{self.prefect}/deployments/{found['id']}/create_flow_run"
        body = {"parameters": parameters, "idempotency_key": uuid.uuid4().hex}
        answers: list[httpx.Response] = []

        def asked() -> bool:  # a busy server answers 503 while its own database is locked
            answers.append(ask("POST", address, json=body, timeout=30.0))
            return answers[-1].status_code != 503

        self.wait_for(asked, "an answer to the request")
        answers[-1].raise_for_status()
        return str(answers[-1].json()["id"])

    def flow_run(self, flow_run_id: str) -> dict[str, Any]:
        return dict(ask("GET", f"{self.prefect}/flow_runs/{flow_run_id}", timeout=30.0).json())

    def runs(self, name: str) -> list[dict[str, Any]]:
        """The flow runs of a flow, whoever asked for them."""
        body = {"flows": {"name": {"any_": [name]}}}
        return list(ask("POST", f"{self.prefect}/flow_runs/filter", json=body, timeout=30.0).json())

    def state(self, flow_run_id: str) -> str:
        return str(self.flow_run(flow_run_id)["state_type"])

    def message(self, flow_run_id: str) -> str:
        return str(self.flow_run(flow_run_id)["state"]["message"])

    def retrain_run(self) -> str:
        """The flow run that holds the model's retrain; empty where nobody does."""
        with transaction(self.maker) as session:
            running = retrain_running(session, self.model)
        return running.flow_run_id if running is not None else ""

    def use_strategy(self, strategy: str) -> None:
        rules = {"cool_down_seconds": 0.0, "strategy": strategy}
        policies = {self.model: TABLES | {"retrain": rules}}
        self._monkeypatch.setenv("HOMEOSTAT_MODELS", json.dumps(policies))
        get_settings.cache_clear()

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Look again and again until it is so; fails at the deadline."""
        wait_for(condition, what)


def slanted(row: list[float], slant: float) -> list[float]:
    """An 8x8 image with each line pushed sideways, the more the farther from the middle."""
    image = np.zeros((8, 8))
    for line, values in enumerate(np.array(row).reshape(8, 8)):
        shift = round((3.5 - line) * slant)
        for column in range(8):
            if 0 <= column - shift < 8:
                image[line, column] = values[column - shift]
    return [float(value) for value in image.reshape(-1)]


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prefect server on a free port of the loopback: its API's address."""
    folder = tmp_path_factory.mktemp("prefect")
    (port,) = free_ports(1)
    quiet = {
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    module = "homeostat.supervisor.prefect_server"
    command = [sys.executable, "-m", module, "server", "start", "--host", "127.0.0.1"]
    address = f"http://127.0.0.1:{port}/api"
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)], stdout=log, stderr=log, env=os.environ | quiet
        )
        try:
            wait_for(lambda: _answers(f"{address}/health"), "Prefect's server")
            yield address
            # What waits to be sent is sent while the server is there, not for a minute at exit.
            APILogWorker.drain_all(timeout=10)
            EventsWorker.drain_all(timeout=10)
        finally:
            stop(process)


@pytest.fixture
def site(
    mlflow_url: str,
    prefect_api: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Site]:
    """An installation of this test alone, with a model that no other test has."""
    model = f"digits-{uuid.uuid4().hex[:8]}"
    policy = TABLES | getattr(request, "param", {})
    environment = {
        "HOMEOSTAT_STATE_DIR": str(tmp_path / "state"),
        "HOMEOSTAT_MLFLOW_URL": mlflow_url,
        "HOMEOSTAT_PREFECT_URL": prefect_api,
        "HOMEOSTAT_MODELS": json.dumps({model: policy}),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    settings = get_settings()
    upgrade(settings.database)
    with temporary_settings({PREFECT_API_URL: prefect_api}):
        yield Site(settings, prefect_api, monkeypatch)
    get_settings.cache_clear()


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process of ours and what it started."""
    if process.poll() is not None:
        return
    family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
    _, alive = psutil.wait_procs(family, timeout=5)
    for child in alive:
        child.kill()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {DEADLINE} s"
        time.sleep(0.1)


def _answers(address: str) -> bool:
    try:
        return ask("GET", address, timeout=2.0).is_success
    except httpx.HTTPError:
        return False


def _runs_flow(process: psutil.Process) -> bool:
    """Whether it is a flow run's; one that ended since it was listed is none."""
    try:
        return "prefect.engine" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # a zombie too
        return False
