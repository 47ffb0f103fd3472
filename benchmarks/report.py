"""What a batch report costs: seconds and peak memory, each preset in a process of its own.

`python -m benchmarks.report --rows 100000 --columns 20` runs it.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import get_args

from monitoring.report import Preset

LIMIT_SECONDS, LIMIT_MB = 60.0, 2048.0
PRESETS: tuple[Preset, ...] = get_args(Preset)


def main() -> None:
    """Print a line for each preset; exit with 1 where one is over its limits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=100_000, help="Of either side.")
    parser.add_argument("--columns", type=int, default=20, help="A quarter of them categorical.")
    parser.add_argument("--preset", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.preset:
        (preset,) = (each for each in PRESETS if each == given.preset)
        one(preset, given.rows, given.columns)
        return
    print(f"{given.rows:,} rows by {given.columns} columns on either side; import included.")
    print(f"{'preset':<16}{'seconds':>9}{'cpu s':>9}{'peak MB':>9}  rows used")
    over = False
    for preset in PRESETS:
        own = [sys.executable, "-W", "ignore", "-m", "benchmarks.report", "--preset", preset]
        own += ["--rows", str(given.rows), "--columns", str(given.columns)]
        said = subprocess.run(own, capture_output=True, text=True, check=True).stdout
        seconds, cpu, peak, used = said.split()[-4:]
        print(f"{preset:<16}{seconds:>9}{cpu:>9}{peak:>9}  {used}", flush=True)
        over |= float(seconds) > LIMIT_SECONDS or float(peak) > LIMIT_MB
    print("over" if over else "within", f"{LIMIT_SECONDS:.0f} s and {LIMIT_MB:.0f} MB")
    sys.exit(1 if over else 0)


def one(preset: Preset, rows: int, columns: int) -> None:
    """Write one report and print seconds, CPU seconds, peak MB and rows used."""
    import numpy as np
    import pandas as pd

    from homeostat.schema import Feature
    from monitoring.report import PREDICTION, TARGET, batch_report

    features = [
        Feature(f"c{n}", "categorical", ("a", "b", "c")) if n % 4 == 3 else Feature(f"x{n}")
        for n in range(columns)
    ]

    def frame(seed: int) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        made = {
            each.name: rng.normal(seed, 1.0, rows)
            if each.kind == "numeric"
            else rng.choice(each.categories, rows)
            for each in features
        }
        classes = preset == "classification"
        for name in (TARGET, PREDICTION):
            made[name] = rng.choice(["a", "b", "c"], rows) if classes else rng.normal(size=rows)
        return pd.DataFrame(made)

    current, reference = frame(1), frame(0)
    start, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        done = batch_report(
            current,
            reference,
            features,
            Path(folder) / "report.html",
            preset,
        )
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{seconds:.1f} {cpu:.1f} {peak:.0f} {done.rows_current}+{done.rows_reference}")


if __name__ == "__main__":
    main()
