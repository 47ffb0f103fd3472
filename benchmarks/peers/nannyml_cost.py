"""Rows a second of CPU time of NannyML's univariate drift, in NannyML's own environment.

    python -m benchmarks.peers.nannyml_cost DATA.npz SIZE ...

DATA has `reference` and `rows`, (N, F) each, and `coded`, (F,): whether a column holds codes. Its
default method for numbers and categories, the Jensen-Shannon distance, and its thresholds as
shipped. Prints as JSON, for each SIZE and number of chunks, both and the rows a second.
"""

from __future__ import annotations

import json
import sys
import time
import warnings

import nannyml
import numpy as np
import pandas as pd
from numpy.typing import NDArray

CHUNKS = (10, 1)  # of a check: as shipped, and with one verdict as a report has it
WARM_ROWS = 1_000  # of the check before the clock starts
SECONDS = 3.0  # of CPU for each figure, at least


def fitted(
    reference: pd.DataFrame, coded: list[str], chunks: int
) -> nannyml.UnivariateDriftCalculator:
    """A calculator that knows the reference."""
    return nannyml.UnivariateDriftCalculator(
        column_names=list(reference), treat_as_categorical=coded, chunk_number=chunks
    ).fit(reference)


def rate(judge: nannyml.UnivariateDriftCalculator, rows: pd.DataFrame) -> float:
    """Rows a CPU second of checks of these rows: `calculate` alone, the result not read."""
    judge.calculate(rows[:WARM_ROWS])
    start, done = time.process_time(), 0
    while (spent := time.process_time() - start) < SECONDS:
        judge.calculate(rows)
        done += 1
    return done * len(rows) / spent


def frame(values: NDArray[np.float64], coded: list[str]) -> pd.DataFrame:
    """A table of (N, F) values, codes as texts."""
    table = pd.DataFrame(values, columns=[f"c{place}" for place in range(values.shape[1])])
    table[coded] = table[coded].astype(str)
    return table


def main() -> None:
    """Answer for each size of the command line."""
    warnings.simplefilter("ignore")
    path, *sizes = sys.argv[1:]
    with np.load(path) as data:
        coded = [f"c{place}" for place in np.flatnonzero(data["coded"])]
        reference, rows = frame(data["reference"], coded), frame(data["rows"], coded)
    judges = {chunks: fitted(reference, coded, chunks) for chunks in CHUNKS}
    found = [
        (size, chunks, rate(judge, rows[:size]))
        for size in map(int, sizes)
        for chunks, judge in judges.items()
    ]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
