"""Gateway requests per second, everything on, beside a plain FastAPI route that predicts.

    python benchmarks/serving.py [--seconds 1] [--rounds 10]

A real gateway process serves a trained digits version (with a standby in shadow, the monitors,
the prediction log and its database) over loopback; the peer is one FastAPI route that does one
forward per request with the same weights, and nothing else. Each is asked in a closed loop by
1, 16 and 64 keep-alive connections, one row a request, in many short turns, so that a noisy
machine is noisy to both; latencies of all turns count together. CPU is that of the server
process, all of its threads, until what the turn left to do in the background is done.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
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
SETTLE_SECONDS = 0.6  # in which the gateway brings the last turn's predictions to its database


@dataclass
class Turns:
    """What was measured of one server with so many connections: all in seconds."""

    latencies: list[float] = field(default_factory=list)
    wall: float = 0.0
    cpu: float = 0.0

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.latencies) / self.wall

    def latency(self, share: float) -> float:
        """The latency in milliseconds that a share of the requests stays below."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    @property
    def cpu_each(self) -> float:
        """CPU microseconds a request."""
        return 1e6 * self.cpu / len(self.latencies)


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


@dataclass(frozen=True)
class Server:
    """What is measured: where it listens and what it is asked."""

    name: str
    port: int
    requests: list[bytes]


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
def running(command: list[str], port: int, ready: str, **more: str) -> Iterator[psutil.Process]:
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


async def ask(port: int, requests: list[bytes], connections: int, seconds: float) -> Turns:
    """Ask in a closed loop for some seconds."""
    turn = Turns()
    start = time.perf_counter()
    until = start + seconds

    async def go(number: int) -> None:
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
            turn.latencies.append(time.perf_counter() - sent)
        writer.close()

    await asyncio.gather(*(go(number * 7) for number in range(connections)))
    turn.wall = time.perf_counter() - start
    return turn


def take_turn(
    turns: Turns, server: Server, connections: int, seconds: float, process: psutil.Process
) -> None:
    """One turn of one server, added to the others."""
    begun = cpu_seconds(process)
    turn = asyncio.run(ask(server.port, server.requests, connections, seconds))
    time.sleep(SETTLE_SECONDS)
    turns.cpu += cpu_seconds(process) - begun
    turns.latencies += turn.latencies
    turns.wall += turn.wall


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


def main() -> None:
    """Measure both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one turn")
    parser.add_argument("--rounds", type=int, default=10)
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
        ours = Server("gateway", free_port(), encode("/v1/models/digits/predict", rows))
        theirs = Server("plain FastAPI", free_port(), encode("/predict", rows))
        nobody = free_port()
        environment = {
            "HOMEOSTAT_STATE_DIR": str(state),
            "HOMEOSTAT_TOKEN": TOKEN,
            "HOMEOSTAT_GATEWAY_PORT": str(ours.port),
            "HOMEOSTAT_MLFLOW_URL": f"http://127.0.0.1:{nobody}",
            "HOMEOSTAT_PREFECT_URL": f"http://127.0.0.1:{nobody}/api",
        }
        peer_command = [sys.executable, __file__, "--peer", str(version), str(theirs.port)]
        gateway_command = [sys.executable, "-m", "serving"]
        with (
            running(gateway_command, ours.port, "/health/ready", **environment) as gateway,
            running(peer_command, theirs.port, "/docs", PYTHONPATH=str(ROOT)) as peer,
        ):
            both = [(ours, gateway), (theirs, peer)]
            for server, process in both:  # warm
                take_turn(Turns(), server, 16, 1.0, process)
            found = {(s.name, count): Turns() for s, _ in both for count in CONNECTIONS}
            for turn in range(chosen.rounds):
                for count in CONNECTIONS:
                    for server, process in both if turn % 2 else both[::-1]:
                        turns = found[server.name, count]
                        take_turn(turns, server, count, chosen.seconds, process)
        with transaction(sessions(connect(f"sqlite:///{state / 'lifecycle.db'}"))) as session:
            logged = count_predictions(session, "digits")
    print_table(found, logged)


def print_table(found: dict[tuple[str, int], Turns], logged: int) -> None:
    """The figures, and the gateway's beside its peer's."""
    line = "{:14} {:>11} {:>8} {:>7} {:>7} {:>7}"
    print(line.format("server", "connections", "req/s", "p50 ms", "p99 ms", "CPU us"))
    for count in CONNECTIONS:
        both = []
        for name in ("gateway", "plain FastAPI"):
            one = found[name, count]
            both.append((one.rate, one.latency(0.5), one.latency(0.99), one.cpu_each))
            rate, p50, p99, cpu = both[-1]
            print(line.format(name, count, f"{rate:.0f}", f"{p50:.2f}", f"{p99:.2f}", f"{cpu:.0f}"))
        ratios = (f"{ours / theirs:.2f}" for ours, theirs in zip(*both, strict=True))
        print(line.format("ratio", count, *ratios))
    print(f"{logged} predictions are in the database.")


if __name__ == "__main__":
    main()
