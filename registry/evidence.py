"""Detectors' evidence over time, and their states across a restart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from registry.statements import insert
from registry.tables import DetectorStateRow, EvidenceRow


@dataclass(frozen=True)
class EvidenceSample:
    """One detector's evidence at one moment.

    Args:
        model: The registered model's name.
        version: The version that it watches.
        detector: Its name.
        at: When.
        value: Its evidence (a log e-value).
        threshold: Where it signals.
        rows: Seen so far.
    """

    model: str
    version: int
    detector: str
    at: datetime
    value: float
    threshold: float
    rows: int


@dataclass(frozen=True)
class DetectorState:
    """A detector as it was saved: its name, its `to_json`, and when."""

    detector: str
    state: Any
    at: datetime


def record_evidence(session: Session, samples: Sequence[EvidenceSample]) -> None:
    """Keep samples for the timeline."""
    if samples:
        session.execute(insert(session, EvidenceRow), [asdict(sample) for sample in samples])


def evidence_series(
    session: Session, model: str, start: datetime, end: datetime
) -> list[EvidenceSample]:
    """The samples of a model in [start, end), in order."""
    columns = [getattr(EvidenceRow, name) for name in EvidenceSample.__dataclass_fields__]
    query = (
        select(*columns)
        .where(EvidenceRow.model == model, EvidenceRow.at >= start, EvidenceRow.at < end)
        .order_by(EvidenceRow.at, EvidenceRow.id)
    )
    return [EvidenceSample(*row) for row in session.execute(query)]


def save_detector(
    session: Session, model: str, version: int, detector: str, state: object, at: datetime
) -> None:
    """Keep a detector's state (its `to_json`), in place of the one before."""
    statement = insert(session, DetectorStateRow).values(
        model=model, version=version, detector=detector, state=state, at=at
    )
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[
                DetectorStateRow.model,
                DetectorStateRow.version,
                DetectorStateRow.detector,
            ],
            set_={"state": statement.excluded.state, "at": statement.excluded.at},
        )
    )


def load_detectors(
    session: Session, model: str, version: int, since: datetime | None = None
) -> dict[str, Any]:
    """The saved states of a version's detectors, by name.

    Args:
        session: Open transaction.
        model: The registered model's name.
        version: The version that they judge.
        since: Only those saved at that moment or later: a version that served twice was
            watched twice, and what was seen the first time is over.
    """
    return {one.detector: one.state for one in detector_states(session, model, version, since)}


def detector_states(
    session: Session, model: str, version: int, since: datetime | None = None
) -> list[DetectorState]:
    """As `load_detectors`, with the moment that each was saved."""
    query = select(DetectorStateRow.detector, DetectorStateRow.state, DetectorStateRow.at).where(
        DetectorStateRow.model == model, DetectorStateRow.version == version
    )
    if since is not None:
        query = query.where(DetectorStateRow.at >= since)
    return [DetectorState(*row) for row in session.execute(query)]


def drop_detectors(session: Session, model: str, version: int) -> None:
    """Forget the saved states of a version: it starts afresh."""
    session.execute(
        delete(DetectorStateRow).where(
            DetectorStateRow.model == model, DetectorStateRow.version == version
        )
    )
