"""River's drift detectors over the streams of the drift benchmark, in river's own environment.

    python -m benchmarks.peers.river_drift STREAMS.npy DETECTOR SETTING REFERENCE

Prints the rows at which each stream alarmed, counted after the reference, as JSON. One detector
watches each feature; an alarm of any is one, and then all start anew, as ours do.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import numpy as np
from river import base, drift

DETECTORS: dict[str, Callable[[float], base.DriftDetector]] = {
    "adwin": lambda delta: drift.ADWIN(delta=delta),
    "ddm": lambda level: drift.binary.DDM(drift_threshold=level),
    "page-hinkley": lambda threshold: drift.PageHinkley(threshold=threshold, mode="up"),
    "page-hinkley both": lambda threshold: drift.PageHinkley(threshold=threshold),
    "kswin": lambda alpha: drift.KSWIN(alpha=alpha, seed=1),
}


def alarms(
    make: Callable[[], base.DriftDetector], values: list[list[float]], skip: int
) -> list[int]:
    """Where a stream (F, T) alarms; its first `skip` values are taken but not judged."""
    found, detectors = [], [make() for _ in values]
    for row, rows in enumerate(zip(*values, strict=True)):
        drifted = False
        for detector, value in zip(detectors, rows, strict=True):
            detector.update(value)
            drifted |= detector.drift_detected
        if drifted and row >= skip:
            found.append(row - skip + 1)
            detectors = [make() for _ in values]
    return found


def main() -> None:
    """Answer for the streams of the command line."""
    path, name, setting, reference = sys.argv[1:]
    streams = np.load(path)
    by_feature = streams[:, None] if streams.ndim == 2 else streams.transpose(0, 2, 1)
    make = DETECTORS[name]
    answer = [
        alarms(lambda: make(float(setting)), stream.tolist(), int(reference))
        for stream in by_feature
    ]
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
