"""Swaps under traffic: what they cost callers, and whether any answer is of two versions at once.

    python -m benchmarks.swap [--swaps 200] [--rate 200]

A real gateway is asked open-loop, so many requests a second whatever it does, while one version
after the other becomes champion. Each time the next of four is read from disk, proven, warmed and
asked its golden rows beside the one that answers, and has not served for three swaps. Latency
counts from the moment at which a request was due. An answer is mixed where its rows are not all of
one version, or are not that version's very outputs, or head and body name different ones. Steady
traffic, of the same rate, is measured before and after. The gateway refuses nobody for waiting
(`max_queue_ms` is 0), so whatever is not 200 has failed. Exit code 1 if any answer failed or was
mixed, or the p99 under swaps is more than twice the steady one.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gateway import MODEL, Connection, prepare, running, until_it_answers
from benchmarks.ports import free_port
from models.artifact import load_model
from registry.cache import ArtifactCache

VERSIONS = 4
ROWS = [[float((n * k) % 17) for k in range(64)] for n in range(1, 4)]  # of each request
CONNECTIONS = 32
TOLERANCE = 1e-5  # of a confidence: batches of other sizes add in other orders
STEADY_SECONDS = 20.0


@dataclass
class Phase:
    """What callers met in one stretch; latencies in seconds."""

    latencies: list[float] = field(default_factory=list)
    failed: int = 0
    mixed: int = 0
    swaps: int = 0

    def latency(self, share: float) -> float:
        """The latency in milliseconds that a share of the requests stays below."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@dataclass(frozen=True)
class Traffic:
    """Requests that are due at even times.

    Args:
        port: Of the gateway.
        rate: Requests a second.
        said: By version the top probability of each row.
    """

    port: int
    rate: float
    said: dict[int, list[float]]

    async def during(self, work: Callable[[Phase], Awaitable[None]]) -> Phase:
        """Ask while some work goes on."""
        phase, over = Phase(), asyncio.Event()
        due: asyncio.Queue[float | None] = asyncio.Queue()
        askers = [asyncio.create_task(self._ask(due, phase)) for _ in range(CONNECTIONS)]
        clock = asyncio.create_task(self._schedule(due, over))
        await work(phase)
        over.set()
        await clock
        await asyncio.gather(*askers)
        return phase

    async def _schedule(self, due: asyncio.Queue[float | None], over: asyncio.Event) -> None:
        start, number = time.perf_counter(), 0
        while not over.is_set():
            number += 1
            moment = start + number / self.rate
            await asyncio.sleep(max(0.0, moment - time.perf_counter()))
            due.put_nowait(moment)
        for _ in range(CONNECTIONS):
            due.put_nowait(None)

    async def _ask(self, due: asyncio.Queue[float | None], phase: Phase) -> None:
        connection = Connection(self.port)
        while (moment := await due.get()) is not None:
            try:
                answer = await connection.post(f"/v1/models/{MODEL}/predict", {"rows": ROWS})
            except OSError:
                phase.failed += 1
                continue
            phase.latencies.append(time.perf_counter() - moment)
            if answer.status != 200:
                phase.failed += 1
            elif self._is_mixed(answer.headers, answer.body):
                phase.mixed += 1
        connection.close()

    def _is_mixed(self, headers: Mapping[str, str], body: dict[str, Any]) -> bool:
        """Whether an answer is not wholly of one version, in its one generation."""
        version, generation = body["version"], body["generation"]
        told = [one["confidence"] for one in body["predictions"]]
        named = {one["version"] for one in body["predictions"]}
        return (
            named != {version}
            or headers["x-homeostat-version"] != str(version)
            or headers["x-homeostat-generation"] != str(generation)
            or body["release"] != f"{MODEL}:{version}@g{generation}"
            or not np.allclose(told, self.said[version], rtol=0, atol=TOLERANCE)
        )


def outputs_of(state: Path) -> dict[int, list[float]]:
    """What each version says of `ROWS`, worked out beside the gateway."""
    said = {}
    for version in range(1, VERSIONS + 1):
        digest = ArtifactCache(state / "versions").digest_of(MODEL, version) or ""
        loaded = load_model(state / "versions" / digest, allowed={"digits"})
        outputs = loaded.learner.predict(loaded.model, loaded.learner.encode(ROWS))
        said[version] = outputs.max(axis=1).tolist()
    return said


async def swap(port: int, phase: Phase, swaps: int) -> None:
    """Promote one version after the other; each is answered once answers show it."""
    asker = Connection(port)
    for number in range(swaps):
        wanted = {
            "version": 2 + number % VERSIONS if number % VERSIONS < VERSIONS - 1 else 1,
            "reason": "to be measured",
            "actor": "benchmark",
            "override": True,
        }
        answer = await asker.post(f"/v1/models/{MODEL}/promote", wanted)
        if answer.status != 200:
            raise SystemExit(f"swap {number + 1} was refused: {answer.body}")
        phase.swaps += 1
    asker.close()


async def measure(port: int, rate: float, swaps: int, said: dict[int, list[float]]) -> list[Phase]:
    """Steady, under swaps, and steady again."""

    async def rest(_: Phase) -> None:
        await asyncio.sleep(STEADY_SECONDS)

    traffic = Traffic(port, rate, said)
    await Traffic(port, rate, said).during(lambda phase: swap(port, phase, VERSIONS))  # warm
    before = await traffic.during(rest)
    under = await traffic.during(lambda phase: swap(port, phase, swaps))
    return [before, under, await traffic.during(rest)]


def print_table(phases: list[Phase]) -> float:
    """The figures; returns the p99 under swaps by the steady one."""
    line = "{:13} {:>6} {:>9} {:>7} {:>6} {:>8} {:>8} {:>8}"
    heads = ("swaps", "answered", "failed", "mixed", "p50 ms", "p99 ms", "max ms")
    print(line.format("", *heads))
    for name, one in zip(("steady", "under swaps", "steady again"), phases, strict=True):
        figures = (f"{one.latency(share):.2f}" for share in (0.5, 0.99, 1.0))
        counts = (one.swaps, len(one.latencies), one.failed, one.mixed)
        print(line.format(name, *counts, *figures))
    steady = Phase(phases[0].latencies + phases[2].latencies)
    ratio = phases[1].latency(0.99) / steady.latency(0.99)
    print(f"p99 under swaps is {ratio:.2f} times the steady one.")
    return ratio


async def run(rate: float, swaps: int) -> list[Phase]:
    """The three phases of one gateway."""
    with tempfile.TemporaryDirectory() as folder:
        state, port = Path(folder), free_port()
        prepare(state, versions=VERSIONS)
        with running(state, port, HOMEOSTAT_MAX_QUEUE_MS="0") as process:
            await until_it_answers(port, process, state)
            return await measure(port, rate, swaps, outputs_of(state))


def main() -> int:
    """Swap, count, print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--swaps", type=int, default=200)
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    chosen = parser.parse_args()
    phases = asyncio.run(run(chosen.rate, chosen.swaps))
    ratio = print_table(phases)
    spoilt = sum(one.failed + one.mixed for one in phases)
    return 1 if spoilt or ratio > 2.0 else 0


if __name__ == "__main__":
    sys.exit(main())
