"""Aliases moved in a real MLflow: seconds until every answer is of the version that was named."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.gateway import MODEL, prepare, running, until_it_answers
from benchmarks.ports import free_port
from benchmarks.rollback_drills import CALLERS, Callers
from benchmarks.servers import answers, end, wait_until
from homeostat.clock import utc_now
from registry import MlflowVersions, Verdict, connect, record_verdict, sessions, transaction
from registry.cache import ArtifactCache

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 120.0
LIMIT_SECONDS = 30.0
PAUSE_SECONDS = 3.0  # between two moves, in which aliases and tags of the one before are written
IN_A_ROW = 40  # answers of the named version that end a move
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


@contextmanager
def mlflow(folder: Path) -> Iterator[str]:
    """A real MLflow server that keeps everything in a folder; its address."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", str(port), "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    url = f"http://127.0.0.1:{port}"
    with (folder / "mlflow.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | QUIET, stdout=log, stderr=log
        )
        try:
            if not wait_until(lambda: answers(f"{url}/health"), START_SECONDS):
                raise SystemExit("MLflow did not start")
            yield url
        finally:
            end(process)


def register(state: Path, url: str, count: int, database: str = "") -> None:
    """Register the versions of a state folder in MLflow, each with a verdict that lets it pass."""
    maker = sessions(connect(database or f"sqlite:///{state / 'lifecycle.db'}"))
    store, versions = MlflowVersions(url), state / "versions"
    api = httpx.Client(base_url=f"{url}/api/2.0/mlflow", timeout=30.0, trust_env=False)
    experiment = api.post("/experiments/create", json={"name": "drills"}).json()["experiment_id"]
    for version in range(1, count + 1):
        digest = ArtifactCache(versions).digest_of(MODEL, version) or ""
        body = {"experiment_id": experiment, "start_time": int(time.time() * 1000)}
        run = api.post("/runs/create", json=body).json()["run"]["info"]
        place = run["artifact_uri"].removeprefix("mlflow-artifacts:/").lstrip("/")
        for file in (versions / digest).iterdir():
            path = f"{url}/api/2.0/mlflow-artifacts/artifacts/{place}/model/{file.name}"
            httpx.put(path, content=file.read_bytes(), trust_env=False).raise_for_status()
        made = store.register(MODEL, run["run_id"], "model", digest, f"drill {version}")
        if made != version:
            raise SystemExit(f"MLflow gave version {version} the number {made}")
        with transaction(maker) as session:
            record_verdict(session, MODEL, version, Verdict(True, (), digest), utc_now())
    store.close()
    api.close()


async def move(callers: Callers, url: str, version: int) -> float:
    """Move the alias champion; seconds to the first of `IN_A_ROW` answers of that version."""
    place = f"{url}/api/2.0/mlflow/registered-models/alias"
    body = {"name": MODEL, "alias": "champion", "version": str(version)}
    moved = time.time()
    async with httpx.AsyncClient(trust_env=False) as person:
        (await person.post(place, json=body)).raise_for_status()
    until = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < until:
        await asyncio.sleep(0.02)
        newest = callers.answers[-IN_A_ROW:]
        if len(newest) == IN_A_ROW and {one for _, one in newest} == {version}:
            old = [at for at, one in callers.answers if one != version]
            return max(0.0, max(old, default=moved) - moved)
    raise SystemExit(f"the alias was not obeyed in {LIMIT_SECONDS:.0f} s")


async def measure(count: int, rows: list[list[float]], rate: float) -> tuple[list[float], int]:
    """Seconds of each move, sorted, and how many requests failed."""
    with tempfile.TemporaryDirectory() as folder:
        state, port = Path(folder), free_port()
        prepare(state, versions=2)
        with mlflow(state) as url:
            register(state, url, 2)
            with running(state, port, HOMEOSTAT_MLFLOW_URL=url) as process:
                await until_it_answers(port, process, state)
                callers = Callers(port, rate, rows)
                tasks = [asyncio.create_task(callers.ask(number)) for number in range(CALLERS)]
                found = []
                for number in range(count):
                    await asyncio.sleep(PAUSE_SECONDS)
                    found.append(await move(callers, url, 2 - number % 2))
                callers.over = True
                await asyncio.gather(*tasks)
        return sorted(found), callers.failed
