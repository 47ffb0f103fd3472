"""NannyML's univariate drift over windows of the streams of the drift benchmark, in its own place.

    python -m benchmarks.peers.nannyml_drift STREAMS.npy window THRESHOLD REFERENCE

Its default method for numbers and categories, the Jensen-Shannon distance, in chunks of 1,000
rows, with a constant threshold (0.1 as shipped). An alarm is a chunk with any column above it.
"""

from __future__ import annotations

import json
import sys
import warnings

import nannyml
import numpy as np
import pandas as pd
from nannyml.thresholds import ConstantThreshold
from numpy.typing import NDArray

WINDOW = 1_000
METHOD = "jensen_shannon"
CODED = range(16, 21)  # columns that hold codes, the predicted class among them


def alarms(stream: NDArray[np.float64], skip: int, threshold: float) -> list[int]:
    """The ends of the windows of (T, F) rows that drifted from the first `skip` rows."""
    names = [f"c{place}" for place in range(stream.shape[1])]
    coded = [names[place] for place in CODED if place < len(names)]
    table = pd.DataFrame(stream, columns=names)
    table[coded] = table[coded].astype(int).astype(str)
    judge = nannyml.UnivariateDriftCalculator(
        column_names=names,
        treat_as_categorical=coded,
        continuous_methods=[METHOD],
        categorical_methods=[METHOD],
        thresholds={METHOD: ConstantThreshold(upper=threshold)},
        chunk_size=WINDOW,
    ).fit(table[:skip])
    rows = table[skip : len(table) - (len(table) - skip) % WINDOW].reset_index(drop=True)
    found = judge.calculate(rows).filter(period="analysis").to_df()
    alerts = np.column_stack([found[(name, METHOD, "alert")].to_numpy() for name in names])
    return [int(WINDOW * (place + 1)) for place in np.flatnonzero(alerts.any(axis=1))]


def main() -> None:
    """Answer for the streams of the command line."""
    warnings.simplefilter("ignore")
    path, _, threshold, reference = sys.argv[1:]
    streams = np.load(path)
    print(json.dumps([alarms(one, int(reference), float(threshold)) for one in streams]))


if __name__ == "__main__":
    main()
