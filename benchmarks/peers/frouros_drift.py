"""Frouros' drift detectors over the streams of the drift benchmark, in its own environment.

    python -m benchmarks.peers.frouros_drift STREAMS.npy DETECTOR SETTING REFERENCE

Prints the rows at which each stream alarmed, counted after the reference, as JSON. `ks` tests each
feature of a window of 1,000 rows, with its setting as the p-value of all features together.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import numpy as np
from frouros.detectors.concept_drift import ADWIN, RDDM, ADWINConfig, RDDMConfig
from frouros.detectors.data_drift import KSTest
from numpy.typing import NDArray

WINDOW = 1_000
DETECTORS: dict[str, Callable[[float], ADWIN | RDDM]] = {
    "adwin": lambda delta: ADWIN(config=ADWINConfig(delta=delta)),
    "rddm": lambda level: RDDM(config=RDDMConfig(warning_level=0.78 * level, drift_level=level)),
}


def on_labels(
    make: Callable[[], ADWIN | RDDM], stream: NDArray[np.float64], skip: int
) -> list[int]:
    """Where (T,) labels alarm; the first `skip` are taken but not judged."""
    found, detector = [], make()
    for row, value in enumerate(stream.tolist()):
        detector.update(value=value)
        if detector.status["drift"] and row >= skip:
            found.append(row - skip + 1)
            detector = make()
    return found


def on_rows(stream: NDArray[np.float64], skip: int, level: float) -> list[int]:
    """The ends of the windows of (T, F) rows with any feature below its share of the level."""
    tests = [KSTest() for _ in range(stream.shape[1])]
    for test, column in zip(tests, stream[:skip].T, strict=True):
        test.fit(X=column)
    rows, found = stream[skip:], []
    for end in range(WINDOW, len(rows) + 1, WINDOW):
        columns = zip(tests, rows[end - WINDOW : end].T, strict=True)
        least = min(test.compare(X=column)[0].p_value for test, column in columns)
        if least <= level / stream.shape[1]:
            found.append(end)
    return found


def main() -> None:
    """Answer for the streams of the command line."""
    path, name, level, reference = sys.argv[1:]
    setting, skip = float(level), int(reference)
    streams = np.load(path)
    if name == "ks":
        print(json.dumps([on_rows(one, skip, setting) for one in streams]))
    else:
        make = DETECTORS[name]
        print(json.dumps([on_labels(lambda: make(setting), one, skip) for one in streams]))


if __name__ == "__main__":
    main()
