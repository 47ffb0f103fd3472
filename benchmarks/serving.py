"""Gateway requests per second, everything on, beside a plain FastAPI route that predicts.

    python benchmarks/serving.py [--seconds 3] [--repeats 3]

A real gateway process serves a trained digits version (with a standby in shadow, the monitors,
the prediction log and its database) over loopback; the peer is one FastAPI route that does one
forward per request with the same weights, and nothing else. Each is asked in a closed loop by
1, 16 and 64 keep-alive connections, one row a request; figures are medians of the repeats, taken
in turns. CPU is that of the server process, all of its threads.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from homeostat.clock import utc_now
from models.artifact import load_model, save_model
from models.data import Dataset, read_dataset, split
from models.digits import Digits
from models.evaluate import evaluate
from models.learner import Budget, Examples
from monitoring.profile import Profile
from registry import connect, count_predictions, promote, sessions, transaction, upgrade
from registry.cache import ArtifactCache

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "benchmark"  # noqa: S105 - of a server that lives for a minute on loopback
CONNECTIONS = (1, 16, 64)
START_SECONDS = 60.0


@dataclass(frozen=True)
class Figures:
    """One measurement: requests per second, latencies in ms, CPU microseconds a request."""

    rate: float
    p50: float
    p99: float
    cpu: float


def prepare(state: Path) -> Dataset:
    """A state folder with two trained versions; the rows that they have not seen."""
    train, held = split(read_dataset("builtin:digits", "label"), 0.3, 0)
    learner = Digits.from_data(train.rows, train.labels, {})
    url = f"sqlite:///{state / 'lifecycle.db'}"
    upgrade(url)
    maker = sessions(connect(url))
    x = learner.encode(held.rows)
    for version in (1, 2):
        generator = torch.Generator().manual_seed(version)
        module = learner.build(generator)
        data = Examples(learner.encode(train.rows), learner.targets(train.labels))
        learner.fit(module, data, None, Budget(epochs=8), generator)
        judged = evaluate(learner, module, x, held.labels)
        profile = Profile.from_reference(
            learner.features,
            learner.task,
            learner.observe(x),
            learner.predicted(judged.outputs),
            learner.confidence(judged.outputs),
            judged.losses,
        )
        made = state / "made"
        extra = {"profile.json": profile.to_json().encode()}
        digest = save_model(made, "digits", learner, module, extra)
        (state / "versions").mkdir(exist_ok=True)
        made.rename(state / "versions" / digest)
        ArtifactCache(state / "versions").remember("digits", version, digest)
        with transaction(maker) as session:
            promote(
                session,
                "digits",
                version,
                actor="benchmark",
                reason="to be measured",
                evidence={},
                now=utc_now(),
                digest=digest,
            )
    return held


class Body(BaseModel):
    """What the peer's route takes."""

    row: list[float]


def run_peer(folder: str, port: int) -> None:
    """Serve the peer: a FastAPI route with one forward per request."""
    torch.set_num_threads(1)
    loaded = load_model(Path(folder), allowed={"digits"})
    app = FastAPI()

    @app.post("/predict")
    async def predict(body: Body) -> dict[str, object]:
        outputs = loaded.learner.predict(loaded.model, loaded.learner.encode([body.row]))
        return loaded.learner.answers(outputs)[0]

    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False, log_level="warning")


@contextmanager
def server(command: list[str], port: int, ready: str, **more: str) -> Iterator[psutil.Process]:
    """A server process, ended at the end of the block."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | more, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + START_SECONDS
            while not answers(f"http://127.0.0.1:{port}{ready}"):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise SystemExit(f"{command} did not start:\n{log.read().decode()}")
                time.sleep(0.1)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(20)


def answers(url: str) -> bool:
    """Whether something answers at an address."""
    try:
        return httpx.get(url, timeout=1.0, trust_env=False).status_code < 500
    except httpx.HTTPError:
        return False


async def measure(
    port: int, requests: list[bytes], connections: int, seconds: float, process: psutil.Process
) -> Figures:
    """Ask in a closed loop for some seconds."""
    latencies: list[float] = []
    begun = cpu_seconds(process)
    start = time.perf_counter()
    until = start + seconds

    async def ask(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < until:
            number += 1
            sent = time.perf_counter()
            writer.write(requests[number % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"an answer was not 200: {head!r}")
            fields = head.lower().split(b"content-length: ", 1)[1]
            await reader.readexactly(int(fields.split(b"\r\n", 1)[0]))
            latencies.append(time.perf_counter() - sent)
        writer.close()

    await asyncio.gather(*(ask(number * 7) for number in range(connections)))
    took = time.perf_counter() - start
    spent = cpu_seconds(process) - begun
    latencies.sort()
    count = len(latencies)
    return Figures(
        count / took,
        1000 * latencies[count // 2],
        1000 * latencies[min(count - 1, int(count * 0.99))],
        1e6 * spent / count,
    )


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time of a process so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def encode(path: str, rows: list[list[float]]) -> list[bytes]:
    """Each row as a whole HTTP request."""
    found = []
    for row in rows:
        body = json.dumps({"row": row}, separators=(",", ":")).encode()
        found.append(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
    return found


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def median(figures: list[Figures]) -> Figures:
    """The median of each figure."""
    columns = zip(*((one.rate, one.p50, one.p99, one.cpu) for one in figures), strict=True)
    return Figures(*(statistics.median(column) for column in columns))


def main() -> None:
    """Measure both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer", nargs=2, metavar=("FOLDER", "PORT"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.peer:
        run_peer(chosen.peer[0], int(chosen.peer[1]))
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        held = prepare(state)
        rows = [[float(value) for value in torch.tensor(row).flatten()] for row in held.rows[:256]]
        version = next(path for path in (state / "versions").iterdir() if len(path.name) == 64)
        gateway_port, peer_port, nobody = free_port(), free_port(), free_port()
        environment = {
            "HOMEOSTAT_STATE_DIR": str(state),
            "HOMEOSTAT_TOKEN": TOKEN,
            "HOMEOSTAT_GATEWAY_PORT": str(gateway_port),
            "HOMEOSTAT_MLFLOW_URL": f"http://127.0.0.1:{nobody}",
            "HOMEOSTAT_PREFECT_URL": f"http://127.0.0.1:{nobody}/api",
        }
        peer_command = [sys.executable, __file__, "--peer", str(version), str(peer_port)]
        gateway_command = [sys.executable, "-m", "serving"]
        sets = {
            "gateway": (gateway_port, encode("/v1/models/digits/predict", rows)),
            "plain FastAPI": (peer_port, encode("/predict", rows)),
        }
        found: dict[tuple[str, int], list[Figures]] = {}
        with (
            server(gateway_command, gateway_port, "/health/ready", **environment) as gateway,
            server(peer_command, peer_port, "/docs", PYTHONPATH=str(ROOT)) as peer,
        ):
            processes = {"gateway": gateway, "plain FastAPI": peer}
            for name, (port, requests) in sets.items():  # warm
                asyncio.run(measure(port, requests, 16, 1.0, processes[name]))
            for _ in range(chosen.repeats):
                for connections in CONNECTIONS:
                    for name, (port, requests) in sets.items():
                        one = measure(port, requests, connections, chosen.seconds, processes[name])
                        found.setdefault((name, connections), []).append(asyncio.run(one))
        with transaction(sessions(connect(f"sqlite:///{state / 'lifecycle.db'}"))) as session:
            logged = count_predictions(session, "digits")
    print_table(found, logged)


def print_table(found: dict[tuple[str, int], list[Figures]], logged: int) -> None:
    """The medians, and the gateway beside its peer."""
    print(
        f"{'server':14} {'connections':>11} {'req/s':>8} {'p50 ms':>7} {'p99 ms':>7} {'CPU us':>7}"
    )
    for connections in CONNECTIONS:
        ours = median(found["gateway", connections])
        theirs = median(found["plain FastAPI", connections])
        for name, one in (("gateway", ours), ("plain FastAPI", theirs)):
            print(
                f"{name:14} {connections:11d} {one.rate:8.0f} {one.p50:7.2f} {one.p99:7.2f} "
                f"{one.cpu:7.0f}"
            )
        print(
            f"{'ratio':14} {connections:11d} {ours.rate / theirs.rate:8.2f} "
            f"{ours.p50 / theirs.p50:7.2f} {ours.p99 / theirs.p99:7.2f} "
            f"{ours.cpu / theirs.cpu:7.2f}"
        )
    print(f"{logged} predictions are in the database.")


if __name__ == "__main__":
    main()
