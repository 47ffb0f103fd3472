"""Rows a second of our monitors, and of Evidently's and NannyML's batch checks; our memory.

The same columns and reference for all, a check's own CPU time of one process, one after the other
in the same run, after a warm-up of each. NannyML runs in an environment of its own
(`benchmarks/peers/nannyml_cost.py`); if it cannot be installed, it is left out with the reason, and
the goal is not shown.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.environments import Missing, said_by
from homeostat.schema import Feature
from monitoring import InputDetector, LossDetector, LossReference, Profile

Floats = NDArray[np.float64]

WANTED = 50.0  # times each peer's rows a second
PEERS = ("Evidently", "NannyML")
PEER_SECONDS = 600
BATCHES = (1, 64, 1_000, 10_000, 100_000)  # rows of one update
SIZES = (5_000, 100_000)  # rows of one check by a peer
SECONDS = 3.0  # of CPU for each of our figures
SLOPE_MB = 2.0  # that memory may grow over all rows of the last part: an allocator's noise


def main() -> None:
    """Print all, the ratios, and how memory grew; exit with 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--columns", type=int, default=20, help="A quarter of them categorical.")
    parser.add_argument("--rows", type=int, default=10_000_000, help="Of the memory's part.")
    parser.add_argument("--memory", action="store_true", help="The memory's part alone.")
    given = parser.parse_args()
    features = [
        Feature(f"c{n}", "categorical", ("a", "b", "c")) if n % 4 == 3 else Feature(f"x{n}")
        for n in range(given.columns)
    ]
    rows = make(features, max(SIZES), 1)
    zeros = np.zeros(len(rows))
    reference = make(features, 20_000, 0)
    outputs = np.zeros(len(reference))
    profile = Profile.from_reference(features, "regression", reference, outputs, outputs, outputs)
    print(f"{given.columns} columns; CPU time of one process.")
    if given.memory:
        sys.exit(0 if remembered(profile, rows, zeros, given.rows) else 1)
    ours = {}
    for batch in BATCHES:
        ours[batch] = rate(InputDetector(profile, 100_000, 0.1), rows, zeros, batch)
        print(f"ours, updates of {batch:>7,} rows     {ours[batch]:>12,.0f} rows a second")
    best = quickest(features, rows, reference)
    for name, peer in best.items():
        for batch, own in ours.items():
            print(f"updates of {batch:,} rows: {own / peer:.2f} times {name}'s quickest")
    print(f"wanted of the quickest: {WANTED:.0f} times")
    ahead = all(max(ours.values()) >= WANTED * best.get(name, np.inf) for name in PEERS)
    kept = remembered(profile, rows, zeros, given.rows)
    sys.exit(0 if ahead and kept else 1)


def make(features: list[Feature], rows: int, seed: int) -> Floats:
    """Stationary rows, (N, F), categories as their codes."""
    rng = np.random.default_rng(seed)
    columns = [
        rng.integers(0, 3, rows).astype(float)
        if each.kind == "categorical"
        else rng.normal(size=rows)
        for each in features
    ]
    return np.column_stack(columns)


def update(detector: InputDetector, rows: Floats, zeros: Floats, at: int, batch: int) -> None:
    """One update with the batch of that number."""
    start = at * batch % (len(rows) - batch + 1)
    part = slice(start, start + batch)
    detector.update(rows[part], zeros[part], zeros[part])


def rate(detector: InputDetector, rows: Floats, zeros: Floats, batch: int) -> float:
    """Rows a CPU second of updates with so many rows each."""
    for at in range(3):
        update(detector, rows, zeros, at, batch)
    start, done = time.process_time(), 0
    while (spent := time.process_time() - start) < SECONDS:
        update(detector, rows, zeros, done, batch)
        done += 1
    return done * batch / spent


def quickest(features: list[Feature], rows: Floats, reference: Floats) -> dict[str, float]:
    """Print the rows a CPU second of each peer's checks; the most of each that could run."""
    best = {"Evidently": 0.0}
    for size in SIZES:
        found = evidently(features, rows[:size], reference)
        best["Evidently"] = max(best["Evidently"], found)
        print(f"evidently, checks of {size:>7,} rows  {found:>12,.0f} rows a second", flush=True)
    try:
        checks = nannyml(features, rows, reference)
    except Missing as reason:
        print(f"NannyML is left out: {reason}")
        return best
    for size, chunks, found in checks:
        line = f"nannyml, checks of   {size:>7,} rows  {found:>12,.0f} rows a second"
        print(f"{line}, {chunks} chunk{'s' if chunks > 1 else ''}")
    return best | {"NannyML": max(found for _, _, found in checks)}


def evidently(features: list[Feature], rows: Floats, reference: Floats) -> float:
    """Rows a CPU second of Evidently's drift preset, without writing its page."""
    os.environ["DO_NOT_TRACK"] = "1"
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    names = [each.name for each in features]
    texts = [each.name for each in features if each.kind == "categorical"]
    definition = DataDefinition(
        numerical_columns=[name for name in names if name not in texts], categorical_columns=texts
    )

    def side(values: Floats) -> object:
        frame = pd.DataFrame(values, columns=names)
        frame[texts] = frame[texts].astype(str)
        return Dataset.from_pandas(frame, data_definition=definition)

    then = side(reference[:1_000])
    Report([DataDriftPreset()]).run(side(rows[:1_000]), then)  # its imports are no cost of a check
    now, then = side(rows), side(reference)
    start = time.process_time()
    Report([DataDriftPreset()]).run(now, then).dict()
    return len(rows) / (time.process_time() - start)


def nannyml(
    features: list[Feature], rows: Floats, reference: Floats
) -> list[tuple[int, int, float]]:
    """Of NannyML's univariate drift: rows of a check, its chunks, and rows a CPU second.

    Raises:
        Missing: it cannot be installed.
    """
    coded = [each.kind == "categorical" for each in features]
    with tempfile.TemporaryDirectory(prefix="drift-cost-") as folder:
        data = Path(folder) / "data.npz"
        np.savez(data, reference=reference, rows=rows, coded=np.array(coded))
        sizes = [str(size) for size in SIZES]
        said = said_by("nannyml", "nannyml_cost", str(data), *sizes, seconds=PEER_SECONDS)
    return [(size, chunks, found) for size, chunks, found in json.loads(said)]


def remembered(profile: Profile, rows: Floats, zeros: Floats, total: int) -> bool:
    """Print how resident memory goes while so many rows are taken; whether it stays."""
    seen = memory(profile, rows, zeros, total)
    slope = float(np.polyfit(np.linspace(0.0, total / 1e6, len(seen)), seen, 1)[0])
    size = len(InputDetector(profile, 100_000, 0.1).to_json())
    print(
        f"memory over {total:,} rows, a tenth labelled: {seen[0]:.1f} to {seen[-1]:.1f} MB, "
        f"slope {slope:+.3f} MB a million; state {size:,} bytes"
    )
    return slope * total / 1e6 <= SLOPE_MB


def memory(profile: Profile, rows: Floats, zeros: Floats, total: int) -> list[float]:
    """Resident MB of this process, a hundred times while so many rows are taken, warmed up."""
    batch, process = 1_000, psutil.Process()
    inputs = InputDetector(profile, 100_000, 0.1)
    losses = LossDetector(LossReference(2_000, 200.0), 100_000, 0.02)
    errors = np.random.default_rng(2).random(batch) < 0.1
    steps, seen = total // batch, []
    for at in range(-steps // 10, steps):
        update(inputs, rows, zeros, abs(at), batch)
        if at % 10 == 0:  # a label for each tenth row
            losses.update(errors)
        if at >= 0 and at % max(1, steps // 100) == 0:
            seen.append(process.memory_info().rss / 2**20)
    return seen


if __name__ == "__main__":
    main()
