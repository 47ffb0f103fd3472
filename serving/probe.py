"""Measure a version in the real serving code: `python -m serving.probe FOLDER`.

One process, alone: it loads the version's folder as the gateway does (digest, learner, golden
rows), sends its golden rows through the gateway's batching path, and prints one JSON line:

    {"rows": 8, "latency_p50_ms": ..., "latency_p99_ms": ..., "throughput_rows_s": ...,
     "memory_mb": ..., "size_bytes": ...}         exit code 0
    {"failure": "why it cannot serve"}            exit code 4

Latency is of one row from its body to its answer's bytes, with the prediction log written;
HTTP and the monitors are left out: they are the same for every version.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

import msgspec
import numpy as np
import psutil
import torch

from homeostat.clock import utc_now
from homeostat.errors import ArtifactError, HomeostatError
from homeostat.guard import die_with_parent
from models.catalog import known_learners
from registry.runtimes import RUNTIMES
from serving.batching import Batcher
from serving.entries import parse_request
from serving.fleet import Fleet, Split
from serving.metrics import Metrics
from serving.runtime import GOLDEN_FILE, Golden, Loaded, load
from serving.spool import Spool

MODEL = "candidate"
BATCH_ROWS = 64
WARM_UP = 20  # requests before the clock counts
SECONDS = 0.5  # of each measurement, at most
FEWEST, MOST = 30, 2_000  # requests of each measurement
REFUSED = 4
MIB = 1024 * 1024


def measure(folder: Path, digest: str, allowed: Sequence[str]) -> dict[str, float]:
    """Load a version and measure it.

    Args:
        folder: Its `model/`.
        digest: What its files have to be; empty: whatever they are.
        allowed: Learner references that may be imported, besides the installed ones.

    Returns:
        `rows`, `latency_p50_ms`, `latency_p99_ms`, `throughput_rows_s`, `memory_mb` and
        `size_bytes`, as `registry.Measured` says.

    Raises:
        ArtifactError: its files are not what they should be, or hold no golden rows.
        LearnerError: it cannot answer.
    """
    torch.set_num_threads(1)  # as in the gateway
    torch.nn.Linear(8, 8)(torch.zeros(2, 8))  # what the first operation takes is not the version's
    before = _resident()
    # Whoever asks for a probe let the format in already: adopting asks before it loads anything.
    loaded = load(folder, MODEL, 1, digest, {*known_learners(), *allowed}, RUNTIMES)
    rows = _golden_rows(folder)
    with tempfile.TemporaryDirectory() as spool:
        singles, batches = asyncio.run(_time(loaded, rows, Path(spool)))
    size = sum(path.stat().st_size for path in folder.iterdir())
    p50, p99 = np.quantile(singles, (0.5, 0.99)) * 1000.0
    return {
        "rows": len(rows),
        "latency_p50_ms": round(float(p50), 4),
        "latency_p99_ms": round(float(p99), 4),
        "throughput_rows_s": round(BATCH_ROWS / float(np.median(batches)), 1),
        "memory_mb": round(max(0.0, (_resident() - before) / MIB), 2),
        "size_bytes": size,
    }


async def _time(
    loaded: Loaded, rows: Sequence[bytes], spool: Path
) -> tuple[list[float], list[float]]:
    """Seconds that each single row takes, and each request of a full batch."""
    fleet = Fleet((MODEL,))
    fleet.swap(Split(MODEL, 1, loaded))
    batcher = Batcher(fleet, Spool(spool), Metrics(), lambda _split, _done: None, utc_now)
    singles = [b'{"row":%b}' % row for row in rows]
    full = b'{"rows":[%b]}' % b",".join(islice(cycle(rows), BATCH_ROWS))
    size = fleet.columns(MODEL)
    return await _ask(batcher, singles, size), await _ask(batcher, [full], size)


async def _ask(batcher: Batcher, bodies: Sequence[bytes], row_size: int) -> list[float]:
    """Ask one request after the other, in turns, and clock each."""
    taken: list[float] = []
    until = time.perf_counter() + SECONDS
    for count, body in enumerate(cycle(bodies)):
        began = time.perf_counter()
        await batcher.submit(MODEL, parse_request(body, BATCH_ROWS, row_size))
        ended = time.perf_counter()
        if count >= WARM_UP:
            taken.append(ended - began)
        if len(taken) >= MOST or (len(taken) >= FEWEST and ended >= until):
            break
    return taken


def _golden_rows(folder: Path) -> list[bytes]:
    """The rows that `load` asked already, as JSON text."""
    path = folder / GOLDEN_FILE
    if not path.exists():
        raise ArtifactError(
            f"It has no {GOLDEN_FILE}: there is nothing to ask it.",
            remedy="Make it by the pipeline or a retrain.",
        )
    rows = msgspec.json.decode(path.read_bytes(), type=Golden).rows
    return [bytes(row) for row in rows]


def _resident() -> int:
    """Bytes of this process in memory, and of those that an adopted version runs in."""
    gc.collect()
    mine = psutil.Process()
    return sum(int(one.memory_info().rss) for one in (mine, *mine.children(recursive=True)))


def main() -> int:
    """Measure the folder of the command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m serving.probe", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--digest", default="", help="what the files have to be")
    parser.add_argument("--learner", action="append", default=[], help="that may be imported")
    parser.add_argument("--seconds", type=float, default=60.0, help="after which it ends itself")
    arguments = parser.parse_args()
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a learner prints is no part of the answer
    # A learner that hangs, in C as well, ends here, and where it hung stands in the log.
    faulthandler.dump_traceback_later(arguments.seconds, exit=True)
    die_with_parent()
    try:
        said: dict[str, float | str] = dict(
            measure(arguments.folder, arguments.digest, arguments.learner)
        )
    except HomeostatError as error:
        said = {"failure": str(error)}
    json.dump(said, answer)
    answer.write("\n")
    answer.flush()
    return REFUSED if "failure" in said else 0


if __name__ == "__main__":
    sys.exit(main())
