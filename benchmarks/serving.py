"""Requests per second, latency and CPU of the gateway beside other model servers.

    python -m benchmarks.serving [--sides homeostat,fastapi | all] [--seconds 2] [--rounds 5]

Every side serves the same digits version (the same weights, the same torch forward) over loopback,
one row of 64 numbers as JSON a request. In each round every side in turn is started afresh, asked
every held-out row and judged by the classes, warmed up, and then asked: in a closed loop by 1, 16
and 64 keep-alive connections that ask again as soon as they are answered, and in an open loop, at
moments that do not wait for answers, a latency counting from when its request was due. The server,
with all of its processes, is on one core and the client on another. CPU is that of all of the
server's processes until what the turn left to do in the background is done. Medians of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.client import Failed, Turn, ask_closed, body_of
from benchmarks.digits_state import Prepared, prepare
from benchmarks.environments import Missing, python_of
from benchmarks.gateway import TOKEN
from benchmarks.ports import free_port
from benchmarks.servers import NotStarted, cores, cpu_seconds, rest, running
from benchmarks.serving_table import MOST_CONNECTIONS, Figures, Found, Load, print_tables
from benchmarks.sides import SIDES, Side
from registry import connect, count_predictions, sessions, transaction

CONNECTIONS = (1, 16, MOST_CONNECTIONS)
US = "homeostat"
DEFAULT_SIDES = "homeostat,fastapi"
WARM_SECONDS = 2.0
SETTLE_SECONDS = 0.6  # in which the gateway brings the last turn's predictions to its database


@dataclass
class Bench:
    """What one run needs, and what it has seen so far.

    Args:
        state: Homeostat's state folder; the peers' working folders are beside it.
        prepared: The version that is served, and what it must answer.
        loads: What each side is put under.
        seconds: Of a turn.
        core: For the servers.
    """

    state: Path
    prepared: Prepared
    loads: list[Load]
    seconds: float
    core: int
    found: Found = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)

    def visit(self, side: Side, python: str) -> None:
        """Start a side, warm it up and judge its answers, take a turn with each load, end it.

        Raises:
            NotStarted: it did not come up.
            Failed: it did not answer as it should.
        """
        port, work = free_port(), self.state.parent / side.name
        work.mkdir(exist_ok=True)
        command = side.command(python, self.prepared.champion, port, work)
        environment = environment_of(self.state, port)
        turns = {}
        with running(command, port, side.ready, self.core, environment) as process:
            rest(process)
            requests = side.requests(self.prepared.rows)
            warm = ask_closed(port, requests, MOST_CONNECTIONS, WARM_SECONDS, keep=1)
            self.judge(side, warm)
            for load in self.loads:
                begun = cpu_seconds(process)
                turn = load.ask(port, requests, self.seconds)
                time.sleep(SETTLE_SECONDS)  # the same for every side: its CPU is counted
                turns[load] = Figures.of(turn, cpu_seconds(process) - begun)
                self.judge(side, turn)
        for load, figures in turns.items():
            self.found.setdefault(side.name, {}).setdefault(load, []).append(figures)

    def judge(self, side: Side, turn: Turn) -> None:
        """Count a turn's requests, and see that each answer that it kept is its row's class.

        Raises:
            Failed: one is another's, or is none.
        """
        self.asked[side.name] = self.asked.get(side.name, 0) + len(turn.latencies)
        if not turn.latencies:
            raise Failed(f"it refused all of {turn.refused} requests")
        if side.read is None:
            return
        for row, answer in turn.kept:
            try:
                found = side.read(json.loads(body_of(answer)))
            except (ValueError, LookupError, TypeError) as error:
                raise Failed(f"its answer does not read: {answer!r}") from error
            if found != self.prepared.classes[row]:
                raise Failed(f"row {row} is {self.prepared.classes[row]}, it says {found}")


def environment_of(state: Path, port: int) -> dict[str, str]:
    """What a side finds in its environment: one thread for arithmetic; Homeostat's settings."""
    nobody = f"http://127.0.0.1:{free_port()}"
    return {
        "HOMEOSTAT_STATE_DIR": str(state),
        "HOMEOSTAT_TOKEN": TOKEN,
        "HOMEOSTAT_GATEWAY_PORT": str(port),
        "HOMEOSTAT_MLFLOW_URL": nobody,
        "HOMEOSTAT_PREFECT_URL": f"{nobody}/api",
        "OMP_NUM_THREADS": "1",
    }


def main() -> int:
    """Measure the sides and print the tables; 1 where a side was left out or a row was lost."""
    given = arguments()
    loads = [Load(count) for count in CONNECTIONS]
    loads += [Load(MOST_CONNECTIONS, rate) for rate in given.arrivals]
    pythons, left_out = installed(given.sides)
    server, client = cores()
    os.sched_setaffinity(0, {client})
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "homeostat"
        state.mkdir()
        bench = Bench(state, prepare(state, channels=given.channels), loads, given.seconds, server)
        for turn in range(given.rounds):
            for name in list(pythons) if turn % 2 == 0 else list(pythons)[::-1]:
                print(f"round {turn + 1}: {name}", file=sys.stderr, flush=True)
                try:
                    bench.visit(SIDES[name], pythons[name])
                except (Failed, NotStarted) as error:
                    left_out[name] = str(error)
                    del pythons[name]
                    bench.found.pop(name, None)
        tell(given, pythons, left_out)
        print_tables(bench.found, loads, {side.name: side.title for side in SIDES.values()}, US)
        return 1 if left_out or lost(bench) else 0


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="of one turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--channels",
        type=int,
        default=0,
        help="of the net's first convolution; 0: none, a perceptron of 64 hidden units",
    )
    parser.add_argument(
        "--sides",
        type=lambda said: list(SIDES) if said == "all" else said.split(","),
        default=DEFAULT_SIDES,
        help=f"some of {', '.join(SIDES)}, with commas; or all",
    )
    parser.add_argument(
        "--arrivals",
        type=lambda said: [float(rate) for rate in said.split(",") if rate],
        default="200,1000",
        help="requests a second of the open loops, with commas",
    )
    given = parser.parse_args()
    if unknown := set(given.sides) - set(SIDES):
        parser.error(f"there is no side {', '.join(unknown)}: say some of {', '.join(SIDES)}")
    return given


def installed(names: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The Python of each side, and why a side has none."""
    pythons, left_out = {}, {}
    for name in names:
        try:
            pythons[name] = python_of(name)
        except Missing as error:
            left_out[name] = f"not installed: {error}"
    return pythons, left_out


def tell(given: argparse.Namespace, names: dict[str, str], left_out: dict[str, str]) -> None:
    """What was measured, and where."""
    print(__doc__.split("\n\n", 2)[2])
    print(
        f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}; {given.rounds} rounds, turns of {given.seconds:g} s; "
        f"{f'a net of {given.channels} channels' if given.channels else 'a perceptron'}.\n"
    )
    for name in names:
        side = SIDES[name]
        print(f"{side.title:<16} {side.version:<10} {side.how}")
    for name, why in left_out.items():
        print(f"{SIDES[name].title} is left out, {why}")


def lost(bench: Bench) -> int:
    """How many of the predictions that the gateway answered are not in its database, told."""
    with transaction(sessions(connect(f"sqlite:///{bench.state / 'lifecycle.db'}"))) as session:
        logged = count_predictions(session, "digits")
    asked = bench.asked.get(US, 0)
    print(f"\n{asked} predictions were asked of the gateway, {logged} are in its database.")
    return asked - logged


if __name__ == "__main__":
    sys.exit(main())
