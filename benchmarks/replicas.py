"""Throughput of several gateways on one port, one core each, against one gateway on one core.

    python -m benchmarks.replicas [--replicas 2] [--seconds 3] [--rounds 3] [--swaps 10]

Real gateway processes over one SQLite database, with the prediction log, monitors and metrics on,
each pinned to a core of its own. A caller process asks over 64 keep-alive connections in a closed
loop: on the cores that are left, or, where there is none, on the same ones, which it then takes
from the gateways: `caller` is its share of the machine. One side runs after the other, in rounds,
and the median counts. CPU is that of all gateway processes, all threads. At the end the routing is
moved some times, and timed until each gateway says that it obeys.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import httpx
import psutil
import uvloop

from benchmarks.gateway import MODEL, ROOT, ROW, environment_of, prepare, request_bytes
from benchmarks.servers import wait_until
from homeostat.clock import utc_now
from registry import connect, current_routing, sessions, transaction, write_routing

CONNECTIONS = 64
ROWS = (1, 32)  # of one request
START_SECONDS = 120.0
SETTLE_SECONDS = 1.0  # in which what a turn left to do in the background is done
HARDLY_ANY = 0.02  # seconds


@dataclass(frozen=True)
class Turn:
    """One side, once: requests a second, gateways' CPU microseconds each, the caller's share."""

    rate: float
    cpu: float
    caller: float


class Asker(asyncio.Protocol):
    """One keep-alive connection that asks again as soon as it is answered."""

    def __init__(self, request: bytes, until: float) -> None:
        self.answered = 0
        self.done = asyncio.get_running_loop().create_future()
        self._request, self._until = request, until
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Take an answer, or a part of one."""
        self._read += data
        head, found, body = self._read.partition(b"\r\n\r\n")
        if not found:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"an answer was not 200: {self._read!r}")
        length = head.lower().split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0]
        if len(body) < int(length):
            return
        self._read = b""
        self.answered += 1
        if time.perf_counter() < self._until:
            self._transport.write(self._request)
        else:
            self._transport.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        """The end."""
        if not self.done.done():
            self.done.set_result(None)


async def call(port: int, rows: int, seconds: float) -> int:
    """Ask over all connections for some seconds; how many answers there were."""
    body = {"rows": [ROW] * rows} if rows > 1 else {"row": ROW}
    request = request_bytes(f"/v1/models/{MODEL}/predict", body)
    until = time.perf_counter() + seconds
    loop = asyncio.get_running_loop()
    askers = []
    for _ in range(CONNECTIONS):
        _, asker = await loop.create_connection(lambda: Asker(request, until), "127.0.0.1", port)
        askers.append(asker)
    await asyncio.gather(*(asker.done for asker in askers))
    return sum(asker.answered for asker in askers)


@contextlib.contextmanager
def fleet(state: Path, count: int, cores: list[int]) -> Iterator[tuple[int, list[psutil.Process]]]:
    """So many gateways on one port, the first on the first core and so on."""
    port = random.randrange(10_000, 32_000)  # below those that the kernel gives to callers
    environment = os.environ | environment_of(state, port)
    environment |= {
        "HOMEOSTAT_MAX_QUEUE_MS": "0",  # closed loops: nobody asks who was not answered
        "OMP_NUM_THREADS": "1",
    }
    processes = []
    try:
        for n in range(1, count + 1):
            command = [sys.executable, "-m", "serving", "--replica", str(n)]
            with (state / f"gateway-{n}.log").open("ab") as log:
                process = subprocess.Popen(
                    command, cwd=ROOT, env=environment, stdout=log, stderr=log
                )
            processes.append(psutil.Process(process.pid))
            processes[-1].cpu_affinity([cores[(n - 1) % len(cores)]])

        def follow() -> bool:
            return set(generations(port, count)) == {newest(state)}

        def ended() -> bool:
            return not all(one.is_running() for one in processes)

        wait_until(lambda: follow() or ended(), START_SECONDS)
        if not follow():
            raise SystemExit((state / "gateway-1.log").read_text()[-4000:])
        yield port, processes
    finally:
        for one in processes:
            one.terminate()
        psutil.wait_procs(processes, 20)


def generations(port: int, count: int) -> list[int]:
    """The routing that each gateway obeys; 0: it does not answer yet."""
    found = []
    for n in range(1, count + 1):
        said: dict[str, dict[str, int]] = {}
        with contextlib.suppress(httpx.HTTPError):
            url = f"http://127.0.0.1:{port + n}/health/ready"
            said = httpx.get(url, trust_env=False).json()["models"]
        found.append(said.get(MODEL, {}).get("generation", 0))
    return found


def newest(state: Path) -> int:
    """The routing that is wanted."""
    with transaction(sessions(connect(database(state)), read_only=True)) as session:
        routing = current_routing(session, MODEL)
    return routing.generation if routing else 0


def database(state: Path) -> str:
    """The address of the database in a state folder."""
    return f"sqlite:///{state / 'lifecycle.db'}"


def take_turn(
    port: int, processes: list[psutil.Process], rows: int, seconds: float, cores: list[int]
) -> Turn:
    """Let a caller of its own process ask, and see what it cost."""
    begun = cpu_seconds(processes)
    command = [sys.executable, "-m", "benchmarks.replicas", "--call"]
    command += [str(port), str(rows), str(seconds), ",".join(map(str, cores))]
    said = json.loads(subprocess.check_output(command, cwd=ROOT, text=True, timeout=seconds + 60))
    time.sleep(SETTLE_SECONDS)  # what a turn leaves to do is done in this, and its CPU counted
    cpu = cpu_seconds(processes) - begun
    answers = int(said["answers"])
    share = said["cpu"] / said["wall"] / (os.cpu_count() or 1)
    return Turn(answers / said["wall"], 1e6 * cpu / answers, share)


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """CPU time of all of them so far."""
    return float(sum(sum(one.cpu_times()[:2]) for one in processes))


def swap_seconds(state: Path, port: int, count: int) -> float:
    """Move the routing, and time it until each gateway says that it obeys."""
    with transaction(sessions(connect(database(state)))) as session:
        now = current_routing(session, MODEL)
        assert now is not None
        wanted = write_routing(
            session,
            MODEL,
            now.generation,
            champion=now.champion,
            challenger=None,
            standby=None,
            phase="steady",
            canary_share=0.0,
            actor="benchmark",
            reason="to be timed",
            evidence={},
            at=utc_now(),
            digests={},
        ).generation
    began = time.perf_counter()
    if not wait_until(lambda: set(generations(port, count)) == {wanted}, START_SECONDS, HARDLY_ANY):
        raise SystemExit(f"a gateway did not follow within {START_SECONDS:.0f} s")
    return time.perf_counter() - began


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0, help="of one turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--swaps", type=int, default=10)
    parser.add_argument("--call", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.call:
        port, rows, seconds, pinned = chosen.call
        os.sched_setaffinity(0, {int(core) for core in pinned.split(",")})
        uvloop.install()
        began, before = time.perf_counter(), time.process_time()
        answers = asyncio.run(call(int(port), int(rows), float(seconds)))
        wall, cpu = time.perf_counter() - began, time.process_time() - before
        print(json.dumps({"answers": answers, "wall": wall, "cpu": cpu}))
        return
    cores = sorted(os.sched_getaffinity(0))
    left = cores[chosen.replicas :] or cores
    turns: dict[tuple[int, int], list[Turn]] = {}
    swaps: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        prepare(state)
        for _ in range(chosen.rounds):
            for count in (1, chosen.replicas):
                with fleet(state, count, cores) as (port, processes):
                    take_turn(port, processes, 1, 1.0, left)  # warm
                    for rows in ROWS:
                        turn = take_turn(port, processes, rows, chosen.seconds, left)
                        turns.setdefault((count, rows), []).append(turn)
                    if count > 1 and not swaps:
                        swaps = [swap_seconds(state, port, count) for _ in range(chosen.swaps)]
    print_table(turns, chosen.replicas, swaps)


def print_table(
    turns: dict[tuple[int, int], list[Turn]], replicas: int, swaps: list[float]
) -> None:
    """The medians, and what several do beside what one does."""
    line = "{:>8} {:>13} {:>8} {:>8} {:>12} {:>8}"
    print(line.format("gateways", "rows/request", "req/s", "rows/s", "CPU us/req", "caller"))
    for rows in ROWS:
        rates = []
        for count in (1, replicas):
            own = turns[count, rows]
            rate, cpu, caller = (
                statistics.median(getattr(one, name) for one in own)
                for name in ("rate", "cpu", "caller")
            )
            rates.append(rate)
            shown = (f"{rate:.0f}", f"{rate * rows:.0f}", f"{cpu:.0f}", f"{caller:.0%}")
            print(line.format(count, rows, *shown))
        print(line.format("ratio", rows, f"{rates[1] / rates[0]:.2f}", "", "", ""))
    print(
        f"A new routing is obeyed by all {replicas} gateways after {statistics.median(swaps):.2f} s"
        f" in the median of {len(swaps)}, {max(swaps):.2f} s at most."
    )


if __name__ == "__main__":
    main()
