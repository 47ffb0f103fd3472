"""Each side of the drift benchmark: a setting, run over streams, says where it alarmed.

A side sees the reference first, as its way is: ours as a profile, streaming peers as the first rows
of the stream, batch peers as the window to compare with. After an alarm it starts anew.

Shapes: S streams, T rows (or labels) of each, F features.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.drift_streams import CODED, PREDICTED
from homeostat.schema import Feature, Task
from monitoring import InputDetector, LossDetector, LossReference, Profile

Floats = NDArray[np.float64]
Alarms = list[
    list[int]
]  # of each stream, the rows at which it alarmed, counted after the reference

STEP = 16  # rows that our detectors get at once, as a gateway's traffic would bring them
PEER_SECONDS = 3_000


@dataclass(frozen=True)
class Side:
    """One detector, with the settings among which it is tuned.

    Args:
        name: In the table.
        peer: The module of `benchmarks.peers` that runs it, in the environment of that name.
        detector: What that module calls it; `losses` or `inputs` for ours.
        settings: From the most sensitive to the least.
        default: The setting as shipped, shown beside the tuned one; None: not shown.
    """

    name: str
    peer: str
    detector: str
    settings: tuple[float, ...]
    default: float | None = None


def alarms(side: Side, setting: float, reference: int, streams: Floats) -> Alarms:
    """Where a side alarms; each stream begins with `reference` rows.

    Raises:
        Missing: the peer cannot be installed.
    """
    if not side.peer:
        ours = {"losses": loss_alarms, "inputs": input_alarms}[side.detector]
        return [ours(stream, reference, int(setting)) for stream in streams]
    return ask_peer(side, setting, reference, streams)


def loss_alarms(stream: Floats, reference: int, budget: int, tolerance: float = 0.0) -> list[int]:
    """Where a `LossDetector` alarms in (T,) losses."""
    judged = LossReference(reference, float(stream[:reference].sum()))
    detector = LossDetector(judged, budget, tolerance)
    found = []
    for end in range(reference + STEP, len(stream) + 1, STEP):
        detector.update(stream[end - STEP : end])
        if detector.drift_detected:
            found.append(end - reference)
            detector.reset()
    return found


def profile_of(values: Floats, coded: Sequence[int] = (), outputs: Floats | None = None) -> Profile:
    """The profile of (N, F) rows with (N, 2) classes and confidences, or constant ones."""
    codes = tuple(str(code) for code in range(10))
    features = [
        Feature(f"f{i}", "categorical", codes) if i in coded else Feature(f"f{i}")
        for i in range(values.shape[1])
    ]
    still = np.zeros(len(values))
    task: Task = "regression" if outputs is None else "classification"
    classes, confidence = (still, still) if outputs is None else outputs.T
    return Profile.from_reference(features, task, values, classes, confidence, still)


def input_alarms(stream: Floats, reference: int, budget: int, tolerance: float = 0.0) -> list[int]:
    """Where an `InputDetector` alarms in (T, F + 2) rows with their classes and confidences."""
    rows, outputs = stream[:, :PREDICTED], stream[:, PREDICTED:]
    profile = profile_of(rows[:reference], range(CODED, PREDICTED), outputs[:reference])
    detector = InputDetector(profile, budget, tolerance)
    return watch(detector, rows[reference:], STEP, outputs[reference:])


def watch(
    detector: InputDetector, rows: Floats, step: int = STEP, outputs: Floats | None = None
) -> list[int]:
    """Where it alarms in (T, F) rows that come `step` at once; without outputs, constant ones."""
    found = []
    answers = np.zeros((len(rows), 2)) if outputs is None else outputs
    for end in range(step, len(rows) + 1, step):
        part = slice(end - step, end)
        detector.update(rows[part], *answers[part].T)
        if detector.drift_detected:
            found.append(end)
            detector.reset()
    return found


def ask_peer(side: Side, setting: float, reference: int, streams: Floats) -> Alarms:
    """`alarms` of a peer, which runs in its own environment.

    Raises:
        Missing: it cannot be installed.
        RuntimeError: it failed.
    """
    from benchmarks.environments import said_by  # what needs no peer runs without their world

    with tempfile.TemporaryDirectory(prefix="drift-") as folder:
        data = Path(folder) / "streams.npy"
        np.save(data, streams)
        asked = (str(data), side.detector, repr(setting), str(reference))
        said = said_by(side.peer, f"{side.peer}_drift", *asked, seconds=PEER_SECONDS)
    answer: Alarms = json.loads(said)
    return answer
