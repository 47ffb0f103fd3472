"""Changes that are being learnt until it is well again: what `monitoring.recovery` decides by.

A recovery begins with the loss signal of an incident, and keeps what was healthy before. All else
follows from what is stored anyway: the incident's retrains with what each brought, and which of
their versions took traffic. So a gateway that was started again, or takes over, goes on with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from monitoring.recovery import Recovery, Try
from registry.retrains import Learnt, retrain_history
from registry.statements import columns_of, insert
from registry.tables import RecoveryRow, ReleaseRow

AGAIN = "Accuracy fell again: that is another change, still measured by what was healthy before."
ANSWERED_WITHIN = timedelta(minutes=10)  # a challenger's alias, where MLflow is there


@dataclass(frozen=True)
class RecoveryRecord:
    """A change that is, or was, being learnt.

    Args:
        id: Of the row.
        model: The registered model's name.
        incident_id: Whose loss signal began it; its retrains are its own.
        version: The champion that lost.
        change_at: When the change began, as estimated.
        healthy: The mean loss of before, in [0, 1].
        opened_at: When the signal was seen.
        ended_at: When no more was to be done, or None.
        outcome: Why it ended.
    """

    id: int
    model: str
    incident_id: str
    version: int
    change_at: datetime
    healthy: float
    opened_at: datetime
    ended_at: datetime | None
    outcome: str


def open_recovery(
    session: Session,
    model: str,
    incident_id: str,
    version: int,
    change_at: datetime,
    healthy: float,
    now: datetime,
) -> RecoveryRecord:
    """Begin to learn the change that an incident is about; for the same incident once.

    Where an earlier change is still being learnt, that one ends, and what was healthy before it
    stays healthy: the version that lost again was never shown to be well.
    """
    known = recovery_of(session, incident_id)
    if known is not None:
        return known
    earlier = standing_recovery(session, model)
    if earlier is not None:
        end_recovery(session, earlier.id, AGAIN, now)
        healthy = earlier.healthy
    session.execute(
        insert(session, RecoveryRow).values(
            model=model,
            incident_id=incident_id,
            version=version,
            change_at=change_at,
            healthy=healthy,
            opened_at=now,
            ended_at=None,
            outcome="",
        )
    )
    found = recovery_of(session, incident_id)
    assert found is not None
    return found


def standing_recovery(session: Session, model: str) -> RecoveryRecord | None:
    """The change of a model that is being learnt, or None."""
    query = columns_of(RecoveryRow).where(
        RecoveryRow.model == model, RecoveryRow.ended_at.is_(None)
    )
    row = session.execute(query).mappings().one_or_none()
    return None if row is None else RecoveryRecord(**row)


def recovery_of(session: Session, incident_id: str) -> RecoveryRecord | None:
    """The recovery that an incident began, or None."""
    query = columns_of(RecoveryRow).where(RecoveryRow.incident_id == incident_id)
    row = session.execute(query).mappings().one_or_none()
    return None if row is None else RecoveryRecord(**row)


def end_recovery(session: Session, recovery_id: int, outcome: str, now: datetime) -> None:
    """No more is to be done; ending it twice keeps the first outcome."""
    session.execute(
        update(RecoveryRow)
        .where(RecoveryRow.id == recovery_id, RecoveryRow.ended_at.is_(None))
        .values(ended_at=now, outcome=outcome)
    )


def retrains_that_learnt(session: Session, record: RecoveryRecord) -> list[Learnt]:
    """What the retrains of a recovery brought that made a version, oldest first."""
    every = retrain_history(session, record.model)
    return [
        one.learnt
        for one in every
        if one.incident_id == record.incident_id and one.learnt is not None
    ]


def on_trial(session: Session, record: RecoveryRecord, now: datetime) -> bool:
    """Whether the newest version of a recovery is on trial, or has just been sent there."""
    every = retrain_history(session, record.model)
    mine = [one for one in every if one.incident_id == record.incident_id and one.learnt]
    if not mine or (last := mine[-1].learnt) is None or not last.passed:
        return False
    query = select(ReleaseRow.role, ReleaseRow.to_at).where(
        ReleaseRow.model == record.model, ReleaseRow.version == last.version
    )
    roles = list(session.execute(query))
    if not roles:  # its alias waits to be answered
        return mine[-1].ended_at is not None and now - mine[-1].ended_at < ANSWERED_WITHIN
    return any(role == "challenger" and to_at is None for role, to_at in roles)


def progress(
    session: Session,
    record: RecoveryRecord,
    tolerance: float,
    now: datetime,
    promoted: int | None = None,
) -> Recovery | None:
    """How far a recovery has come, in labelled rows since the change; None: it is over.

    Args:
        session: Open transaction.
        record: Which one.
        tolerance: Rise above the healthy loss that is not worth an alarm.
        now: A retrain whose version is on trial has not shown what it brought.
        promoted: A version that is about to take all traffic.
    """
    learnt = retrains_that_learnt(session, record)
    if promoted is None and on_trial(session, record, now):
        learnt = learnt[:-1]
    tries = _tries(learnt, _served(session, record.model, promoted))
    return Recovery(0, record.healthy).follow(tries, tolerance)


def learnt_until(session: Session, record: RecoveryRecord) -> datetime | None:
    """When the newest row was predicted that the version which answers has learnt, or None."""
    served = _served(session, record.model)
    known = [one.until for one in retrains_that_learnt(session, record) if one.version in served]
    return max(known, default=None)


def _served(session: Session, model: str, promoted: int | None = None) -> set[int]:
    """The versions whose weights the champion goes on from, its own among them.

    They took all traffic and were not rolled back: numbers grow, and a rollback goes to a lower.
    """
    query = select(ReleaseRow.version, ReleaseRow.to_at).where(
        ReleaseRow.model == model, ReleaseRow.role == "champion"
    )
    found = list(session.execute(query))
    present = [version for version, to_at in found if to_at is None]
    if promoted is not None:
        present = [promoted]
    return {
        version
        for version in (*present, *(v for v, _ in found))
        if version <= max(present, default=0)
    }


def _tries(learnt: list[Learnt], served: set[int]) -> list[Try]:
    """The retrains as tries, in rows since the change; a refresh reads on from what is learnt."""
    tries, known = [], 0
    for one in learnt:
        took_over = one.version in served
        row = known + one.rows
        loss = one.loss if took_over else one.champion_loss
        tries.append(Try(row, loss, took_over, one.gained))
        known = row if took_over else known
    return tries
