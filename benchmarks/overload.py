"""Five times what a gateway can answer: what is refused, how long the accepted ones take.

    python -m benchmarks.overload [--seconds 10] [--times 5] [--share 0.7] [--channels 128]

A real gateway process, everything on, serves a net that costs some tenths of a millisecond a row.
Its capacity is measured first (64 connections in a closed loop). Then requests are sent at a fixed
rate, whether or not earlier ones were answered: a share of the capacity ("steady"), five times the
capacity, and the share again ("after"), on enough connections that none waits for a free one. A
latency is from the moment that a request was written to the moment that its answer was read; those
refused with 429 are counted apart. "recovered" is the time from the end of the overload until a
second begins in which nothing is refused and the 99th percentile is at most twice the steady one.
The sender shares the machine with the gateway; where it could not send at the rate, the table says
what it did send.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import psutil
import uvloop

from benchmarks.gateway import MODEL, ROW, prepare, request_bytes, running
from benchmarks.gateway import until_it_answers as until_ready
from benchmarks.ports import free_port

REQUEST = request_bytes(f"/v1/models/{MODEL}/predict", {"row": ROW})
COLUMNS = ("sent/s", "answered/s", "refused/s", "p50 ms", "p99 ms", "failed", "unsent", "MB")
TICK = 0.002  # seconds between two looks at what is due
RECOVERY_SECONDS = 10
REST_SECONDS = 2.0  # of a connection between two requests


@dataclass
class Phase:
    """What came of one stretch of requests; latencies in seconds, with when each was sent."""

    sent: int = 0
    refused: list[float] = field(default_factory=list)
    answered: list[tuple[float, float]] = field(default_factory=list)
    failed: int = 0
    unsent: int = 0
    retry_after: int = 0
    seconds: float = 0.0
    memory: int = 0

    def latency(self, share: float, since: float = 0.0, until: float = float("inf")) -> float:
        """The latency that a share of the answers stays below, in milliseconds."""
        found = sorted(took for at, took in self.answered if since <= at < until)
        return 1000 * found[min(len(found) - 1, int(len(found) * share))] if found else 0.0


class Asker(asyncio.Protocol):
    """One connection that has one request under way at a time.

    Args:
        free: Where it goes when it is free; the first there is the next to ask: none rests long.
    """

    def __init__(self, free: deque[Asker]) -> None:
        self._free = free
        self._phase = Phase()
        self._sent = 0.0
        self._waiting = False
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is free now."""
        self._transport = cast("asyncio.Transport", transport)
        self._free.append(self)

    def ask(self, phase: Phase) -> None:
        """Send one request."""
        assert self._transport is not None
        self._phase, self._sent, self._waiting = phase, time.perf_counter(), True
        phase.sent += 1
        self._transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        """Take an answer in once it is whole."""
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self._received, self._waiting = b"", False
        took = time.perf_counter() - self._sent
        status = head[9:12]
        if status == b"200":
            self._phase.answered.append((self._sent, took))
        elif status == b"429":
            self._phase.refused.append(self._sent)
            self._phase.retry_after += b"retry-after: " in head.lower()
        else:
            self._phase.failed += 1
        self._free.append(self)

    def connection_lost(self, _: Exception | None) -> None:
        """A connection that breaks with a request under way is a failure."""
        self._phase.failed += self._waiting
        if self in self._free:
            self._free.remove(self)


async def send(rate: float, seconds: float, free: deque[Asker], server: psutil.Process) -> Phase:
    """Send at a rate, and wait for what is under way."""
    phase, count = Phase(), len(free)
    began = time.perf_counter()
    due = 0
    while (now := time.perf_counter() - began) < seconds:
        wanted = int(now * rate)
        while due < wanted:
            due += 1
            if free:
                free.popleft().ask(phase)
            else:
                phase.unsent += 1
        phase.memory = max(phase.memory, server.memory_info().rss)
        await asyncio.sleep(TICK)
    phase.seconds = time.perf_counter() - began
    until = time.perf_counter() + 5
    while len(free) < count and time.perf_counter() < until:
        await asyncio.sleep(0.01)
    return phase


async def capacity(seconds: float, free: deque[Asker]) -> float:
    """Answers a second to 64 connections that always ask."""
    phase, began = Phase(), time.perf_counter()
    while time.perf_counter() - began < seconds:
        while free:
            free.popleft().ask(phase)
        await asyncio.sleep(0)
    return len(phase.answered) / (time.perf_counter() - began)


def recovery(after: Phase, began: float, bound: float) -> int:
    """Whole seconds until one in which all was well again; more than there were: never."""
    for second in range(int(after.seconds)):
        since, until = began + second, began + second + 1
        refused = any(since <= at < until for at in after.refused)
        if not refused and 0 < after.latency(0.99, since, until) <= bound:
            return second
    return int(after.seconds) + 1


async def measure(chosen: argparse.Namespace, state: Path) -> int:
    """All phases, and the table; the exit code."""
    port, loop = free_port(), asyncio.get_running_loop()
    with running(state, port) as process:
        await until_ready(port, process, state)
        server = psutil.Process(process.pid)
        free: deque[Asker] = deque()
        for _ in range(64):
            await loop.create_connection(lambda: Asker(free), "127.0.0.1", port)
        await capacity(2.0, free)  # warm
        limit = await capacity(3.0, free)
        await asyncio.sleep(0.5)
        low, high = limit * chosen.share, limit * chosen.times
        # None rests so long that the gateway, which waits 5 s, hangs up.
        count = min(chosen.connections, max(64, int(low * REST_SECONDS)))
        for _ in range(count - 64):
            await loop.create_connection(lambda: Asker(free), "127.0.0.1", port)
        before = await send(low, chosen.seconds, free, server)
        over = await send(high, chosen.seconds, free, server)
        began = time.perf_counter()
        after = await send(low, max(chosen.seconds, RECOVERY_SECONDS), free, server)
    print(f"capacity {limit:.0f} requests/s ({chosen.channels} channels, 64 connections)")
    line = "{:10} {:>8} {:>10} {:>11} {:>8} {:>8} {:>8} {:>7} {:>7}"
    print(line.format("phase", *COLUMNS))
    for name, one in (("steady", before), (f"{chosen.times:g}x", over), ("after", after)):
        rates = [len(of) / one.seconds for of in (range(one.sent), one.answered, one.refused)]
        print(
            line.format(
                name,
                *(f"{rate:.0f}" for rate in rates),
                f"{one.latency(0.5):.1f}",
                f"{one.latency(0.99):.1f}",
                one.failed,
                one.unsent,
                f"{one.memory / 2**20:.0f}",
            )
        )
    steady, took = before.latency(0.99), over.latency(0.99)
    recovered = recovery(after, began, 2 * steady)
    print(f"p99 of the accepted ones: {took / steady:.2f} times the steady one")
    print(f"refused ones with Retry-After: {over.retry_after} of {len(over.refused)}")
    print(f"memory: {(over.memory - before.memory) / 2**20:+.0f} MB under overload")
    print(f"recovered within {recovered + 1} s")
    return 0 if not (before.failed or over.failed or after.failed) else 1


def main() -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each phase")
    parser.add_argument("--times", type=float, default=5.0, help="the capacity")
    parser.add_argument("--share", type=float, default=0.7, help="of the capacity, when steady")
    parser.add_argument("--channels", type=int, default=128, help="of the net that is served")
    parser.add_argument("--connections", type=int, default=512)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        prepare(state, channels=chosen.channels)
        return uvloop.run(measure(chosen, state))


if __name__ == "__main__":
    sys.exit(main())
