"""Why an incident: its signals, what moved in the rows behind them, and since when.

All of it is read from the lifecycle database; the version's own learner says what of a logged row
is watched. Where the version cannot be loaded, what the detectors noted at the time is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from homeostat.errors import HomeostatError
from homeostat.policy import SlicePolicy
from models.learner import Learner
from models.torch_learner import guarded
from monitoring.cells import Cell, grown_cells
from monitoring.estimates import Estimate
from monitoring.explaining import Shift, explain_columns, explain_loss
from monitoring.open_set import OpenSet
from monitoring.profile import Profile, stack
from registry.gate_slices import named_slices
from registry.incident_records import Incident
from registry.log import find_predictions
from registry.losses import LossPoint, count_losses, loss_series
from registry.samples import Sample, sample_within
from registry.tables import SignalRow

ROWS = 20_000  # answers (labels) that are looked at; of more, so many drawn at random (evenly)
BEFORE = 4  # times the stretch from the change to the alarm: so far back before the change
LEAST = timedelta(minutes=1)  # of that stretch
_LOSSES = {"loss": "loss", "worse-than-standby": "loss beside the standby"}


@dataclass(frozen=True)
class Watched:
    """How a version is watched: its learner, its profile, the slices that its policy names."""

    learner: Learner
    profile: Profile
    slices: Mapping[str, SlicePolicy] = field(default_factory=dict)


Reader = Callable[[str, int], Watched]


@dataclass(frozen=True)
class SignalNote:
    """One detector's signals of an incident: the first, with the most evidence of all.

    Args:
        kind: What they are about.
        detector: Which one saw it.
        at: When the first came.
        since_at: When the change began, as the detector saw it.
        evidence: Its log e-value, the largest.
        threshold: What that had to reach.
        details: Those of the first.
    """

    kind: str
    detector: str
    at: datetime
    since_at: datetime
    evidence: float
    threshold: float
    details: dict[str, Any]


@dataclass(frozen=True)
class Look:
    """What was looked at for one kind of signal.

    Args:
        kind: Of the signal.
        start: The first moment.
        end: The first moment that was no longer looked at.
        rows: Answers (labels) that were looked at.
        total: Answers there are; labels about, where not all were looked at.
        shifts: The clearest change first.
        trouble: Why there is none; empty where the rows could be read.
        cells: Where the loss grew, what is shown first; None where the rows do not tell.
        estimate: Of inputs, the mean loss since the change, without labels.
        open_set: Of inputs, the share since the change that is of no known class, without labels.
    """

    kind: str
    start: datetime
    end: datetime
    rows: int
    total: int
    shifts: tuple[Shift, ...]
    trouble: str = ""
    cells: tuple[Cell, ...] | None = None
    estimate: Estimate | None = None
    open_set: OpenSet | None = None


@dataclass(frozen=True)
class Explanation:
    """An incident with its signals and what was found behind them."""

    incident: Incident
    signals: tuple[SignalNote, ...]
    looks: tuple[Look, ...] = field(default=())


def explain(session: Session, incident: Incident, reader: Reader, now: datetime) -> Explanation:
    """Look at the rows behind an incident's signals.

    Args:
        session: Open transaction; nothing is written.
        incident: Which one.
        reader: Loads how a version is watched.
        now: The present moment.
    """
    signals = signal_notes(session, incident.id)
    looks = [
        _look(session, incident, signal, reader, now)
        for signal in signals
        if signal.kind == "input-drift" or signal.kind in _LOSSES
    ]
    return Explanation(incident, signals, tuple(looks))


def signal_notes(session: Session, incident_id: str) -> tuple[SignalNote, ...]:
    """An incident's signals, one note for each detector and kind, in the order of the first."""
    query = select(SignalRow).where(SignalRow.incident_id == incident_id).order_by(SignalRow.id)
    notes: dict[tuple[str, str], SignalNote] = {}
    for row in session.scalars(query):
        first = notes.get((row.kind, row.detector))
        since = row.details.get("since_at")
        notes[row.kind, row.detector] = SignalNote(
            kind=row.kind,
            detector=row.detector,
            at=first.at if first else row.at,
            since_at=first.since_at
            if first
            else min(datetime.fromisoformat(since), row.at)
            if since
            else row.at,
            evidence=max(first.evidence, row.evidence) if first else row.evidence,
            threshold=row.threshold,
            details=first.details if first else row.details,
        )
    return tuple(notes.values())


def read_values(watched: Watched, sample: Sample) -> NDArray[np.float64]:
    """What the monitors watch of logged answers, (N, C), as `monitoring.profile.stack` gives.

    Raises:
        LearnerError: the learner fails on what was logged.
    """
    learner = watched.learner
    rows = guarded(learner.encode, [record.row for record in sample.rows])
    outputs = np.stack([record.output for record in sample.rows])
    return stack(
        guarded(learner.observe, rows),
        guarded(learner.predicted, outputs),
        guarded(learner.confidence, outputs),
        len(watched.profile.features),
    )


def _look(
    session: Session, incident: Incident, signal: SignalNote, reader: Reader, now: datetime
) -> Look:
    """What the rows from before the change until some time after the alarm tell."""
    stretch = max(signal.at - signal.since_at, LEAST)
    start = signal.since_at - BEFORE * stretch
    end = min(incident.resolved_at or now, signal.at + stretch)
    end = max(end, signal.at) + timedelta(microseconds=1)
    watched, trouble = None, ""
    try:
        watched = reader(incident.model, incident.version)
    except HomeostatError as error:
        trouble = str(error)
    if signal.kind in _LOSSES:
        return _losses(session, incident, signal, watched, start, end)
    if watched is None:
        return Look(signal.kind, start, end, 0, 0, (), trouble)
    sample = sample_within(session, incident.model, start, end, ROWS, incident.version)
    if not sample.rows:
        gone = "The log has no answers of that time."
        return Look(signal.kind, start, end, 0, sample.total, (), gone)
    try:
        values = read_values(watched, sample)
    except HomeostatError as error:
        return Look(signal.kind, start, end, 0, sample.total, (), str(error))
    moments = [record.at for record in sample.rows]
    shifts = explain_columns(watched.profile, values, moments)
    turn = shifts[0].since.at if shifts and shifts[0].since else signal.since_at
    since = watched.profile.count_values(values[np.array([at >= turn for at in moments])])
    return Look(
        signal.kind,
        start,
        end,
        len(sample.rows),
        sample.total,
        shifts,
        estimate=watched.profile.estimate(since),
        open_set=watched.profile.open_set(since),
    )


def _losses(
    session: Session,
    incident: Incident,
    signal: SignalNote,
    watched: Watched | None,
    start: datetime,
    end: datetime,
) -> Look:
    """Losses against the profile's, or the champion's minus the standby's on the same rows."""
    kind, beside = signal.kind, signal.kind == "worse-than-standby"
    total = count_losses(session, incident.model, start, end)
    every = max(1, math.ceil(total / ROWS))
    points = loss_series(session, incident.model, start, end, shadows=beside, every=every)
    own = [point for point in points if point.version == incident.version]
    seen = (
        _beside(points, incident.version) if beside else [(point.at, point.loss) for point in own]
    )
    if not seen:
        return Look(kind, start, end, 0, 0, (), "The log has no labels of that time.")
    reference = watched.profile.losses.histogram if watched and not beside else ()
    moments, losses = [at for at, _ in seen], [loss for _, loss in seen]
    shift = explain_loss(
        _LOSSES[kind], losses, moments, low=-1.0 if beside else 0.0, reference=reference
    )
    turn = shift.since.at if shift.since else signal.since_at
    cells = _cells(session, watched, own, turn) if watched else None
    return Look(kind, start, end, len(seen), len(seen) * every, (shift,), cells=cells)


def _cells(
    session: Session, watched: Watched, points: list[LossPoint], turn: datetime
) -> tuple[Cell, ...] | None:
    """Where the loss grew most at a moment; None where the rows cannot be read."""
    found = find_predictions(session, [point.prediction_id for point in points])
    records = tuple(found[point.prediction_id] for point in points)
    try:
        values = read_values(watched, Sample(records, len(points)))
    except HomeostatError:
        return None
    named = named_slices(watched.slices, [record.row for record in records])
    return grown_cells(
        watched.profile.columns,
        values,
        [point.loss for point in points],
        [point.at >= turn for point in points],
        {one.name: one.rows for one in named},
    )


def _beside(points: list[LossPoint], champion: int) -> list[tuple[datetime, float]]:
    """Loss of one version minus that of the one most often seen on the same predictions."""
    by_id: dict[str, dict[int, LossPoint]] = {}
    for point in points:
        by_id.setdefault(point.prediction_id, {})[point.version] = point
    pairs = [own for own in by_id.values() if champion in own and len(own) > 1]
    others = [version for own in pairs for version in own if version != champion]
    if not others:
        return []
    other = max(sorted(set(others)), key=others.count)
    return [
        (own[champion].at, own[champion].loss - own[other].loss) for own in pairs if other in own
    ]
