"""River's drift detectors over the streams of the drift benchmark, in river's own environment.

    python -m benchmarks.peers.river_drift STREAMS.npy DETECTOR SETTING REFERENCE

Prints the rows at which each stream alarmed, counted after the reference, as JSON. One detector
watches each feature and goes on after an alarm by its own rule; an alarm of any is an alarm.
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
    features = [(make(), column) for column in values]
    found = []
    for row in range(len(values[0])):
        drifted = False
        for detector, column in features:
            detector.update(column[row])
            drifted |= detector.drift_detected
        if drifted and row >= skip:
            found.append(row - skip + 1)
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
