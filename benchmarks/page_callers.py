"""What pages of on-call that are open cost the callers of predictions.

    python -m benchmarks.page_callers [--pages 0 1 5 20] [--rate 300] [--seconds 10] [--rounds 3]
        [--predictions 200000]

One gateway on one core, over a state folder with a week of predictions, labels and releases; the
client and the pages are on another. A page is what the browser's script does at its most: it
listens to the server-sent events, asks for itself anew every 1.5 seconds and for timeline and
versions every 20, as if something always changed. A third of them are the fleet, a third the model,
a third an incident. In each round the numbers of pages take turns, upwards in odd rounds and
downwards in even ones, each under two loads: requests of one row that fall due at random moments
(latency counts from then), and 16 connections that ask again once answered. Medians of the rounds,
and the ratio to none.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx

from benchmarks.client import ask_open
from benchmarks.gateway import MODEL, ROW, TOKEN, environment_of, prepare, request_bytes
from benchmarks.page_rows import fill
from benchmarks.ports import free_port
from benchmarks.servers import cores, cpu_seconds, rest, running
from benchmarks.serving_table import Figures, Load
from homeostat.clock import utc_now

REFRESH_SECONDS = 1.5  # PAUSE of static/page.js
SLOW_SECONDS = 20.0  # SLOW of it
WARM_SECONDS = 2.0
ASKING = 16  # connections of the closed loop
LINE = "{:<8} {:>12} {:>11} {:>11} {:>12} {:>12} {:>14}"
PARTS = ("timeline?hours=24", "versions")


def main() -> None:
    """Measure, and print the table; with `--view` be the pages, which is what it starts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pages", type=int, nargs="+", default=[0, 1, 5, 20])
    parser.add_argument("--rate", type=float, default=300.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of one turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--predictions", type=int, default=200_000)
    parser.add_argument("--view", nargs=2, metavar=("PORT", "PAGES"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.view:
        view(int(given.view[0]), int(given.view[1]))
        return
    server, client = cores()
    os.sched_setaffinity(0, {client})
    loads = (Load(64, given.rate), Load(ASKING))
    sides = sorted({0, *given.pages})
    found: dict[int, dict[Load, list[Figures]]] = {n: {one: [] for one in loads} for n in sides}
    with tempfile.TemporaryDirectory() as folder:
        state, now = Path(folder), utc_now()
        start = now - timedelta(days=7)
        url = prepare(state, versions=2, at=start)
        fill(url, start, now, given.predictions, given.predictions // 10, 40)
        port = free_port()
        environment = environment_of(state, port) | {"OMP_NUM_THREADS": "1"}
        request = request_bytes(f"/v1/models/{MODEL}/predict", {"row": ROW})
        command = [sys.executable, "-m", "serving"]
        with running(command, port, "/health/ready", server, environment) as process:
            rest(process)
            for turn in range(given.rounds):
                for pages in sides[:: 1 if turn % 2 == 0 else -1]:
                    with opened(port, pages):
                        ask_open(port, [request], ASKING, given.rate, WARM_SECONDS)
                        for load in loads:
                            begun = cpu_seconds(process)
                            seen = load.ask(port, [request], given.seconds)
                            figures = Figures.of(seen, cpu_seconds(process) - begun)
                            found[pages][load].append(figures)
    print_table(found, given.rate, loads)


@contextmanager
def opened(port: int, pages: int) -> Iterator[None]:
    """So many pages, in a process of their own on this core, below what measures."""
    if not pages:
        yield
        return
    command = [sys.executable, "-m", "benchmarks.page_callers", "--view", str(port), str(pages)]
    with subprocess.Popen(["nice", *command], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            if process.stdout.readline().strip() != b"open":
                raise SystemExit("The pages could not be opened.")
            yield
        finally:
            process.kill()


def view(port: int, pages: int) -> None:
    """Be so many pages until killed; says `open` once each is."""
    address = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
        form = {"token": TOKEN, "next": "/"}
        client.post("/page/sign-in", data=form)
        found = re.search(r"/page/incidents/([0-9a-f-]+)", client.get("/").text)
        assert found
        kinds = ("/", f"/page/models/{MODEL}", f"/page/incidents/{found[1]}")
        ready = threading.Barrier(pages + 1)
        for n in range(pages):
            one = (address, dict(client.cookies), kinds[n % 3], n / pages, ready)
            threading.Thread(target=_be, args=one, daemon=True).start()
        ready.wait(120)
    print("open", flush=True)
    threading.Event().wait()


def _be(
    address: str, cookies: dict[str, str], path: str, phase: float, ready: threading.Barrier
) -> None:
    """One page: its events, itself, its slow parts."""
    with (
        httpx.Client(base_url=address, cookies=cookies, trust_env=False, timeout=60) as client,
        client.stream("GET", "/page/events") as events,
    ):
        threading.Thread(target=lambda: list(events.iter_raw()), daemon=True).start()
        client.get(path).raise_for_status()
        ready.wait(120)
        slow = time.monotonic() - SLOW_SECONDS * phase
        wait = REFRESH_SECONDS * phase  # pages are not opened in the same moment
        while True:
            time.sleep(wait)  # the load is so many looks a second: as page.js paces them
            wait = REFRESH_SECONDS
            client.get(path)
            if path.startswith("/page/models") and time.monotonic() - slow > SLOW_SECONDS:
                slow = time.monotonic()
                for part in PARTS:
                    client.get(f"{path}/{part}")


def print_table(
    found: dict[int, dict[Load, list[Figures]]], rate: float, loads: tuple[Load, Load]
) -> None:
    """The medians, and what they are of those without a page."""
    print(f"open loop: {rate:,.0f} requests/s fall due; closed loop: {ASKING} connections")
    heads = ("pages", "p50 ms, open", "p99 ms, open", "of none", "req/s, closed", "of none")
    print(LINE.format(*heads, "CPU us, open"))
    open_loop, closed = loads
    none = Figures.medians(found[0][open_loop]), Figures.medians(found[0][closed])
    for pages, turns in found.items():
        due, most = Figures.medians(turns[open_loop]), Figures.medians(turns[closed])
        shown = (f"{due.p50:.2f}", f"{due.p99:.2f}", f"{due.p99 / none[0].p99:.2f}")
        rates = (f"{most.rate:,.0f}", f"{most.rate / none[1].rate:.2f}", f"{due.cpu:.0f}")
        print(LINE.format(pages, *shown, *rates))


if __name__ == "__main__":
    main()
