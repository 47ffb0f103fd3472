"""What versions in shadow cost the callers of the champion.

    python -m benchmarks.shadow [--rate 500] [--seconds 10] [--rounds 5]

Two state folders of one model: in one the champion is alone, in the other a warm standby and a
challenger in shadow are asked what they would have said of every row. Both are served by a real
gateway with prediction log, monitors and metrics on, on one core; the client is on another. In each
round both sides are started afresh and take turns, one first in odd rounds and the other in even
ones. Requests of one row fall due at random moments whatever the gateway does, and a latency counts
from then. Medians of the rounds. At the end each logged prediction is counted, and those that the
shadows were asked for: what was too much for them is dropped, before it can hold up an answer.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx

from benchmarks.client import ask_open
from benchmarks.gateway import MODEL, ROW, environment_of, prepare, request_bytes
from benchmarks.ports import free_port
from benchmarks.servers import cores, cpu_seconds, rest, running
from benchmarks.serving_table import Figures
from homeostat.clock import utc_now
from registry import connect, current_routing, sessions, transaction, write_routing

SIDES = {"champion alone": False, "with shadows": True}
CONNECTIONS = 64
WARM_SECONDS = 2.0
SETTLE_SECONDS = 1.0  # in which the log reaches the database and the shadows are asked
DROPPED = "homeostat_shadow_rows_dropped_total"


def cast_shadows(url: str) -> None:
    """Make version 2 the standby and version 3 a challenger in shadow."""
    with transaction(sessions(connect(url))) as session:
        now = current_routing(session, MODEL)
        assert now is not None
        write_routing(
            session,
            MODEL,
            now.generation,
            champion=1,
            challenger=3,
            standby=2,
            phase="shadow",
            canary_share=0.0,
            actor="benchmark",
            reason="to be measured",
            evidence={},
            at=utc_now(),
            digests={},
        )


def take_turn(state: Path, rate: float, seconds: float, core: int) -> tuple[Figures, float]:
    """A gateway's figures at a rate, and how many rows its shadows were not asked for."""
    port = free_port()
    environment = environment_of(state, port) | {"OMP_NUM_THREADS": "1"}
    request = request_bytes(f"/v1/models/{MODEL}/predict", {"row": ROW})
    command = [sys.executable, "-m", "serving"]
    with running(command, port, "/health/ready", core, environment) as process:
        rest(process)
        ask_open(port, [request], CONNECTIONS, rate, WARM_SECONDS)
        time.sleep(SETTLE_SECONDS)  # so that what the warm-up left to do is not
        begun = cpu_seconds(process)
        turn = ask_open(port, [request], CONNECTIONS, rate, seconds)
        time.sleep(SETTLE_SECONDS)  # the same in every turn: its CPU is counted
        figures = Figures.of(turn, cpu_seconds(process) - begun)
        return figures, dropped(port)


def dropped(port: int) -> float:
    """How many rows the gateway left out of its shadows' work."""
    shown = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    lines = [line for line in shown.splitlines() if line.startswith(DROPPED)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def main() -> int:
    """Measure, and print the table; 1 where p99 rises by more than 5 %."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=500.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of one turn")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    server, client = cores()
    found: dict[str, list[Figures]] = {name: [] for name in SIDES}
    left_out = 0.0
    os.sched_setaffinity(0, {client})
    with tempfile.TemporaryDirectory() as folder:
        states = {}
        for name, shadows in SIDES.items():
            state = states[name] = Path(folder) / name.replace(" ", "-")
            state.mkdir()
            url = prepare(state, versions=3)
            if shadows:
                cast_shadows(url)
        for turn in range(given.rounds):
            for name in list(SIDES)[:: 1 if turn % 2 == 0 else -1]:
                figures, more = take_turn(states[name], given.rate, given.seconds, server)
                found[name].append(figures)
                left_out += more
    return print_table(found, given.rate, left_out)


def print_table(found: dict[str, list[Figures]], rate: float, left_out: float) -> int:
    """The medians and how much p99 rises; 1 where it is too much."""
    line = "{:<16} {:>9} {:>8} {:>8} {:>12}"
    print(f"{rate:,.0f} requests/s fall due, latency from then")
    print(line.format("", "req/s", "p50 ms", "p99 ms", "CPU us/req"))
    for name, turns in found.items():
        one = Figures.medians(turns)
        shown = (f"{one.rate:.0f}", f"{one.p50:.2f}", f"{one.p99:.2f}", f"{one.cpu:.0f}")
        print(line.format(name, *shown))
    alone, cast = (found[name] for name in SIDES)
    rise = statistics.median(b.p99 / a.p99 for a, b in zip(alone, cast, strict=True)) - 1.0
    print(f"p99 with shadows differs by {rise:+.1%} from that without, in the median round.")
    print(f"{left_out:.0f} rows were more than the shadows could be asked for.")
    return 0 if rise <= 0.05 else 1


if __name__ == "__main__":
    raise SystemExit(main())
