"""Drift detectors: does the false-alarm budget hold, and who sees a change first at equal alarms?

    python -m benchmarks.drift [--full] [--parts budget dependence selection labels inputs]
                               [--processes N] [--alone | --peers NAME ...]

All streams are seeded, so a second run prints the same. The default takes some minutes on two
cores; `--full` adds budgets of a million and more of all, and takes hours there.
Peers are installed once, each in an environment of its own under `.benchmarks/`; one that cannot be
is named with the reason, and `--alone` asks for none: then numpy and scipy are all it takes. Exit
code 1 if a budget was not kept.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor

from benchmarks import drift_budget, drift_dependence, drift_selection
from benchmarks.drift_delay import BUDGET, Amounts, print_table, tuned
from benchmarks.drift_sides import Side
from benchmarks.drift_streams import CONCEPT, INPUTS, LABELS, STILL_ERRORS, STILL_ROWS

ON_LABELS = (
    Side("LossDetector", "", "losses", (BUDGET,)),
    Side("LossDetector, tuned", "", "losses", (10_000, 20_000, 30_000, 50_000, BUDGET)),
    Side("river ADWIN", "river", "adwin", (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.002), 0.002),
    Side("river DDM", "river", "ddm", (1.5, 2.0, 2.5, 3.0, 3.5, 4.0), 3.0),
    Side("river Page-Hinkley", "river", "page-hinkley", (5.0, 10.0, 20.0, 30.0, 50.0, 80.0), 50.0),
    Side("frouros RDDM", "frouros", "rddm", (2.258, 3.0, 4.0, 5.0), 2.258),
)
ON_INPUTS = (
    Side("InputDetector", "", "inputs", (BUDGET,)),
    Side("river ADWIN", "river", "adwin", (3e-4, 3e-5, 1e-6, 1e-8, 1e-10, 1e-13, 1e-17), 2e-3),
    Side("river Page-Hinkley", "river", "page-hinkley both", (200.0, 400.0, 800.0, 1600.0)),
    Side("frouros KS, 1,000 rows", "frouros", "ks", (5e-4, 5e-5, 5e-6, 5e-7)),
    Side("NannyML, 1,000 rows", "nannyml", "window", (0.08, 0.1, 0.12, 0.14, 0.17, 0.2), 0.1),
    Side("Evidently, 1,000 rows", "evidently", "window", (0.1, 0.15, 0.2, 0.3), 0.1),
)
PARTS = ("budget", "dependence", "selection", "labels", "inputs")


def main() -> int:
    """Run the parts and print their tables."""
    parser = argparse.ArgumentParser(prog="benchmarks.drift", description=__doc__.split("\n")[0])
    parser.add_argument("--full", action="store_true", help="more of all; hours on two cores")
    parser.add_argument("--quick", action="store_true", help="the default: some minutes")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--alone", action="store_true", help="without the peers")
    parser.add_argument("--peers", nargs="+", help="of the peers only these, by their packages")
    given = parser.parse_args()
    peers = [] if given.alone else given.peers
    kept = True
    began = time.monotonic()
    with ProcessPoolExecutor(given.processes) as pool:
        if "budget" in given.parts:
            kept = drift_budget.print_table(pool, given.full)
        if "dependence" in given.parts:
            drift_dependence.print_table(pool)
        if "selection" in given.parts:
            drift_selection.print_table(pool, given.full)
        if "labels" in given.parts:
            on_labels(pool, given.full, peers)
        if "inputs" in given.parts:
            on_inputs(pool, given.full, peers)
    print(f"\n{time.monotonic() - began:.0f} s")
    return 0 if kept else 1


def on_labels(pool: Executor, full: bool, peers: Sequence[str] | None = None) -> None:
    """Delays on 0/1 errors and on losses, in labels."""
    amounts = (
        Amounts(2_000, 10_500, 200, 50_000, 200, 8_000)
        if full
        else Amounts(2_000, 10_500, 40, 25_000, 40, 4_000)
    )
    sides = tuned(pool, some(ON_LABELS, peers), STILL_ERRORS, amounts)
    title = f"Labels from a change to the alarm, 2,000 reference labels, budget {BUDGET:,}"
    print_table(pool, title, sides, LABELS, amounts)


def on_inputs(pool: Executor, full: bool, peers: Sequence[str] | None = None) -> None:
    """Delays on rows of 20 features, a predicted class and its confidence, in rows."""
    amounts = (
        Amounts(5_000, 10_500, 40, 50_000, 30, 8_000)
        if full
        else Amounts(5_000, 2_500, 8, 25_000, 6, 4_000)
    )
    sides = tuned(pool, some(ON_INPUTS, peers), STILL_ROWS, amounts)
    title = f"Rows from a change to the alarm, 20 features, 5,000 reference rows, budget {BUDGET:,}"
    print_table(pool, title, sides, (*INPUTS, CONCEPT), amounts)
    print("Concept only: the rows do not change, so any alarm is a false one; labels see it.")


def some(sides: Sequence[Side], peers: Sequence[str] | None) -> list[Side]:
    """Ours and those peers; all of them where none are named."""
    return [one for one in sides if not one.peer or peers is None or one.peer in peers]


if __name__ == "__main__":
    sys.exit(main())
