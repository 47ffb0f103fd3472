"""Retrains: asked for once, one at a time for each model, within their budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Self

import uuid6
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from homeostat.errors import Refused
from homeostat.policy import RetrainPolicy
from registry.statements import columns_of, insert_new
from registry.tables import RetrainRow

# How long beyond its training budget a retrain may be silent before it counts as dead:
# reading the rows, judging and registering are in it.
GRACE_SECONDS = 900.0
VAIN_KEPT = timedelta(days=1)


@dataclass(frozen=True)
class Learnt:
    """What a retrain that made a version learnt, and what that brought.

    Args:
        version: That it made.
        passed: Its gates.
        rows: That it read, those that it was judged by among them.
        until: When the newest of them was predicted.
        loss: Of the version, mean on the held-out rows, in [0, 1].
        champion_loss: Of the champion that it went on from, on the same rows.
        gained: Whether the first is lower than the second by more than chance.
    """

    version: int
    passed: bool
    rows: int
    until: datetime
    loss: float
    champion_loss: float
    gained: bool

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {"until": self.until.isoformat()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """What `to_json` gave."""
        return cls(**{**value, "until": datetime.fromisoformat(value["until"])})


@dataclass(frozen=True)
class Retrain:
    """A retrain that was asked for.

    `state` is `requested`, `running` or `ended`; `outcome` says how it ended. `incident_id` is
    empty for one that was asked for by hand or by the schedule, `flow_run_id` until it runs.
    `learnt` is None for one that made no version.
    """

    id: str
    model: str
    incident_id: str
    key: str
    state: str
    flow_run_id: str
    at: datetime
    ended_at: datetime | None
    outcome: str
    learnt: Learnt | None = None


def request_retrain(
    session: Session,
    model: str,
    incident_id: str,
    key: str,
    policy: RetrainPolicy,
    now: datetime,
) -> Retrain | None:
    """Ask for a retrain of a model; who asks first gets it.

    The same key gives the same retrain while it has not ended, so who died between asking
    and starting asks again. A retrain that has been silent for its training budget and
    `GRACE_SECONDS` more counts as dead and stands in nobody's way.

    Returns:
        The retrain to start, or None: one is running, the cool-down has not passed, the day's
        budget is spent, or this key was done already.
    """
    known = _by_key(session, key)
    if known is not None:
        return known if known.ended_at is None else None
    running = retrain_running(session, model)
    if running is not None:
        silent = now - running.at
        if silent <= timedelta(seconds=policy.seconds + GRACE_SECONDS):
            return None
        finish_retrain(session, running.key, f"dead: silent for {silent}", now)
    if not _within_budget(session, model, policy, now):
        return None
    statement = insert_new(session, RetrainRow).values(
        id=str(uuid6.uuid7()),
        model=model,
        incident_id=incident_id,
        key=key,
        state="requested",
        flow_run_id="",
        at=now,
        ended_at=None,
        outcome="",
    )
    if session.scalar(statement.returning(RetrainRow.id)) is None:
        return None  # another process asked in the same moment
    return _by_key(session, key)


def start_retrain(session: Session, key: str, flow_run_id: str) -> Retrain:
    """Note the flow run that does it; again with the same run changes nothing.

    Raises:
        Refused: no such retrain was asked for, or it has ended.
    """
    _change(session, key, state="running", flow_run_id=flow_run_id)
    return _present(session, key)


def finish_retrain(
    session: Session, key: str, outcome: str, now: datetime, learnt: Learnt | None = None
) -> Retrain:
    """End a retrain, however it went; ending it twice keeps the first outcome.

    Raises:
        Refused: no such retrain was asked for.
    """
    if _present(session, key).ended_at is None:
        kept = learnt.to_json() if learnt is not None else None
        _change(session, key, state="ended", outcome=outcome, ended_at=now, learnt=kept)
    return _present(session, key)


def retrain_running(session: Session, model: str) -> Retrain | None:
    """The retrain of a model that has not ended, or None."""
    query = columns_of(RetrainRow).where(RetrainRow.model == model, RetrainRow.ended_at.is_(None))
    row = session.execute(query).mappings().one_or_none()
    return None if row is None else _read(row)


def retrain_history(session: Session, model: str) -> list[Retrain]:
    """Every retrain of a model, oldest first."""
    query = columns_of(RetrainRow).where(RetrainRow.model == model)
    rows = session.execute(query.order_by(RetrainRow.at, RetrainRow.id)).mappings()
    return [_read(row) for row in rows]


def in_vain(session: Session, model: str, champion: int, now: datetime) -> list[Retrain]:
    """The newest retrains in a row, started by themselves, that brought nothing; newest first.

    The row ends at one whose version answers, at one that somebody asked for by hand, and at one
    that ended more than `VAIN_KEPT` ago: the world, or what was broken, may be another since.

    Args:
        session: Open transaction.
        model: The registered model's name.
        champion: The version that answers.
        now: The present moment.
    """
    found = []
    for one in reversed(retrain_history(session, model)):
        if one.ended_at is None:
            continue
        answers = one.learnt is not None and one.learnt.version == champion
        if answers or not one.incident_id or now - one.ended_at > VAIN_KEPT:
            break
        found.append(one)
    return found


def _within_budget(session: Session, model: str, policy: RetrainPolicy, now: datetime) -> bool:
    last, ended = session.execute(
        select(func.max(RetrainRow.at), func.max(RetrainRow.ended_at)).where(
            RetrainRow.model == model
        )
    ).one()
    latest = max((moment for moment in (last, ended) if moment is not None), default=None)
    if latest is not None and now - latest < timedelta(seconds=policy.cool_down_seconds):
        return False
    today = select(func.count()).where(
        RetrainRow.model == model, RetrainRow.at > now - timedelta(days=1)
    )
    return (session.scalar(today) or 0) < policy.max_per_day


def _by_key(session: Session, key: str) -> Retrain | None:
    query = columns_of(RetrainRow).where(RetrainRow.key == key)
    row = session.execute(query).mappings().one_or_none()
    return None if row is None else _read(row)


def _read(row: Mapping[Any, Any]) -> Retrain:
    found = row["learnt"]
    learnt = Learnt.from_json(found) if found is not None else None
    return Retrain(**{**row, "learnt": learnt})


def _present(session: Session, key: str) -> Retrain:
    retrain = _by_key(session, key)
    if retrain is None:
        raise Refused(
            f"No retrain was asked for under the key '{key}'.",
            remedy="Ask for it first.",
            key=key,
        )
    return retrain


def _change(session: Session, key: str, **values: object) -> None:
    if _present(session, key).ended_at is not None:
        raise Refused(
            f"The retrain '{key}' has ended.", remedy="Ask for a new one, with a new key.", key=key
        )
    session.execute(update(RetrainRow).where(RetrainRow.key == key).values(**values))
