"""From a signal to its incident: opened, or attached to the one of the same cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import uuid6
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from homeostat.policy import Receiver
from monitoring import Signal, Triage
from monitoring.verdicts import Ruling, rule
from registry.incident_alerts import TITLES, next_of, put_out, tell
from registry.incident_records import SEVERITIES, Incident, read_incident, severity_of
from registry.release_history import find_release
from registry.statements import insert_new
from registry.tables import IncidentEventRow, IncidentRow, SignalRow

SUBJECTS = {
    "model": "its model is gone from MLflow",
    "version": "MLflow has lost it",
    "copy": "its pinned copy is not whole",
    "pointer": "its alias in MLflow says otherwise",
    "traffic": "the traffic does not follow its routing",
    "mlflow": "MLflow does not answer",
    "predictions": "no traffic comes",
    "labels": "no labels come",
    "monitor": "its monitor has stopped",
}
GRAVITY = {
    "registry": 0,
    "silence": 0,
    "input-drift": 1,
    "loss": 2,
    "worse-than-standby": 3,
    "hard-failure": 3,
}


def raise_signal(
    session: Session,
    model: str,
    version: int,
    signal: Signal,
    triage: Triage,
    at: datetime,
    undo: str,
    urls: Sequence[Receiver] = (),
    *,
    next_step: str = "",
) -> Incident:
    """Open the incident of a signal's cause, or attach the signal to the open one.

    The alert goes out when the incident opens and when a graver signal comes. Who mitigates in
    the same transaction gives no `urls` here: then `mitigate` sends the one alert of both.

    Args:
        session: Open transaction.
        model: The registered model's name.
        version: The version that the signal is about.
        signal: A detector's evidence that crossed its threshold.
        triage: What the policy makes of it.
        at: When.
        undo: How to take back what is done about it; empty keeps what is there.
        urls: Where alerts go: the policy's `alerts`.
        next_step: What comes next, for the alert; `{incident}` in it becomes the incident's id.
            Empty: what the triage calls for.
    """
    cause = _release_of(session, model, version)
    if subject := subject_of(signal.details):
        cause = f"{model}:{version}/{subject}"
    row, opened = _open(session, model, cause, version, signal, triage, at, undo)
    line = f"{signal.detector}: {triage.reason}"
    news = _is_news(session, row, signal, line)
    _attach(session, row, version, signal, at)
    graver = _gravity(triage.severity, signal.kind) > _gravity(row.severity, row.kind)
    if graver:
        row.kind, row.severity = signal.kind, triage.severity
        row.title = _titled(model, version, signal)
        if row.state == "mitigated":
            row.state = "open"
    row.undo = undo or row.undo
    if graver or signal.kind == row.kind:
        row.details = _details(signal, triage, row.details)
    if news or graver:
        tell(session, row, at, line)
    if opened or graver:
        step = next_step or next_of(signal.kind, triage)
        put_out(session, row, "update", at, urls, happened=triage.reason, next_step=step)
    return read_incident(session, row.id)


def renumber_incidents(
    session: Session, model: str, numbers: Mapping[int, int], at: datetime
) -> None:
    """Let open incidents about how a version answers follow it to its new number.

    It is the same artifact, so what its detectors say next is no news. To be called once the
    routing names the new numbers, in the same transaction.

    Args:
        session: Open transaction.
        model: The registered model's name.
        numbers: New numbers by the old ones.
        at: When.
    """
    query = select(IncidentRow).where(
        IncidentRow.model == model,
        IncidentRow.version.in_(numbers),
        IncidentRow.state != "resolved",
    )
    for row in session.scalars(query.with_for_update()):
        if subject_of(row.details):
            continue
        old, new = row.version, numbers[row.version]
        row.version = new
        row.cause = _release_of(session, model, new)
        row.title = row.title.replace(f"{model}:{old}:", f"{model}:{new}:", 1)
        tell(session, row, at, f"Version {old} is version {new} now, with the same digest.")


def ruling_of(ruling: Ruling) -> dict[str, str]:
    """A verdict as an incident's details carry it: `verdict`, `answer` and `reason`."""
    return {"verdict": ruling.verdict, "answer": ruling.answer, "reason": ruling.reason}


def _release_of(session: Session, model: str, version: int) -> str:
    """The cause of all signals about how a version answers: its release."""
    release = find_release(session, model, version)
    return f"{model}:{version}@g{release.generation if release else 0}"


def _open(
    session: Session,
    model: str,
    cause: str,
    version: int,
    signal: Signal,
    triage: Triage,
    at: datetime,
    undo: str,
) -> tuple[IncidentRow, bool]:
    """The unresolved incident of a cause, locked, and whether it was made just now."""
    standing = select(IncidentRow).where(
        IncidentRow.cause == cause, IncidentRow.state != "resolved"
    )
    standing = standing.with_for_update().execution_options(populate_existing=True)
    opened = False
    # Again only where another process opened one and resolved it between our two statements.
    while (row := session.scalar(standing)) is None:
        past = session.scalar(select(func.count()).where(IncidentRow.cause == cause)) or 0
        made = insert_new(session, IncidentRow).values(
            id=str(uuid6.uuid7()),
            model=model,
            cause=cause,
            key=cause if past == 0 else f"{cause}#{past + 1}",
            kind=signal.kind,
            severity=triage.severity,
            state="open",
            title=_titled(model, version, signal),
            opened_at=at,
            resolved_at=None,
            version=version,
            undo=undo,
            details=_details(signal, triage, {}),
        )
        opened = session.scalar(made.returning(IncidentRow.id)) is not None
    return row, opened


def _attach(session: Session, row: IncidentRow, version: int, signal: Signal, at: datetime) -> None:
    session.add(
        SignalRow(
            incident_id=row.id,
            model=row.model,
            version=version,
            kind=signal.kind,
            detector=signal.detector,
            evidence=float(signal.evidence),
            threshold=float(signal.threshold),
            rows=int(signal.rows),
            since=int(signal.since),
            details=dict(signal.details),
            at=at,
        )
    )


def _is_news(session: Session, row: IncidentRow, signal: Signal, line: str) -> bool:
    """Whether the incident's story lacks this: a detector speaks once, the registry of each fault.

    A detector's reason counts its labels and so reads otherwise each time it is looked at.
    """
    query = select(func.count()).where(SignalRow.incident_id == row.id)
    query = query.where(SignalRow.kind == signal.kind, SignalRow.detector == signal.detector)
    if signal.kind == "registry":
        query = select(func.count()).where(
            IncidentEventRow.incident_id == row.id, IncidentEventRow.text == line
        )
    return not session.scalar(query)


def _gravity(severity: str, kind: str) -> tuple[int, int]:
    return SEVERITIES.index(severity_of(severity)), GRAVITY.get(kind, 0)


def subject_of(details: Mapping[str, Any]) -> str:
    """What a signal or incident is about where that is not how its version answers.

    Such an incident has the version and this for its cause, so that it opens and is resolved by
    itself, whatever else is open about the version.
    """
    return str(details.get("subject", ""))


def _titled(model: str, version: int, signal: Signal) -> str:
    title = SUBJECTS.get(subject_of(signal.details)) or TITLES.get(signal.kind, signal.kind)
    return f"{model}:{version}: {title}"


def _details(signal: Signal, triage: Triage, before: Mapping[str, Any]) -> dict[str, Any]:
    """The signal's figures; of two estimates of when one change began the earlier stands.

    A gateway that was started again knows the evidence, but not when its rows were predicted.
    """
    ruling = ruling_of(rule([signal]))
    details = dict(signal.details) | {
        "kind": signal.kind,
        "detector": signal.detector,
        "evidence": float(signal.evidence),
        "threshold": float(signal.threshold),
        "rows": int(signal.rows),
        "since": int(signal.since),
        "action": triage.action,
        "reason": triage.reason,
        "verdict": ruling,
    }
    if "judged" in before:  # by a person, whatever comes after
        details["judged"] = before["judged"]
    # What labels said since stands until they say otherwise; of a broken feed they say nothing.
    if before.get("kind") == signal.kind and ruling["verdict"] != "data-break":
        details["verdict"] = before.get("verdict", ruling)
    known = before.get("since_at") if before.get("kind") == signal.kind else None
    if known and "since_at" in details:
        details["since_at"] = min(str(known), str(details["since_at"]))
    return details
