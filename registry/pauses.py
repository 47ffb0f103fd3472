"""Pausing all automation of a model: nothing moves by itself until somebody, or the clock, ends it.

Each pause and each end is a line of the ledger with who and why; a stated end needs no further
line, for the pause's own says when it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from homeostat.errors import InputError, Refused
from registry.columns import spell
from registry.ledger import hold, record
from registry.tables import PauseRow

AUTOMATION = "automation"  # the kind of these lines


@dataclass(frozen=True)
class Pause:
    """A pause of all automation of a model; `until` None: until somebody ends it."""

    model: str
    actor: str
    reason: str
    at: datetime
    until: datetime | None

    def stands(self, now: datetime) -> bool:
        """Whether its end has not come."""
        return self.until is None or now < self.until


def standing_pause(session: Session, model: str, now: datetime) -> Pause | None:
    """The pause of a model's automation, or None where it may act."""
    query = select(
        PauseRow.model, PauseRow.actor, PauseRow.reason, PauseRow.at, PauseRow.until
    ).where(PauseRow.model == model)
    row = session.execute(query).one_or_none()
    pause = None if row is None else Pause(*row)
    return pause if pause is not None and pause.stands(now) else None


def pause_automation(
    session: Session,
    model: str,
    actor: str,
    reason: str,
    now: datetime,
    until: datetime | None = None,
) -> Pause:
    """Pause it; where it is paused already, this reason and this end take the place of those.

    Raises:
        InputError: it would be over already.
    """
    if until is not None and until <= now:
        raise InputError(
            f"A pause until {spell(until)} is over already.", remedy="Give a later end, or none."
        )
    hold(session, model)  # so that of two at once each sees what the other did
    before = standing_pause(session, model, now)
    pause = Pause(model, actor, reason, now, until)
    record(
        session,
        model,
        AUTOMATION,
        actor=actor,
        reason=reason,
        at=now,
        before=None if before is None else _spelt(before),
        after=_spelt(pause),
    )
    session.execute(delete(PauseRow).where(PauseRow.model == model))
    session.add(PauseRow(model=model, actor=actor, reason=reason, at=now, until=until))
    session.flush()
    return pause


def resume_automation(
    session: Session, model: str, actor: str, reason: str, now: datetime
) -> Pause:
    """Let it act again; answers the pause that is over.

    Raises:
        Refused: it is not paused.
    """
    hold(session, model)
    before = standing_pause(session, model, now)
    if before is None:
        raise Refused(
            f"Automation of '{model}' is not paused.", remedy="See `homeostat status`.", model=model
        )
    record(
        session,
        model,
        AUTOMATION,
        actor=actor,
        reason=reason,
        at=now,
        before=_spelt(before),
        after=None,
    )
    session.execute(delete(PauseRow).where(PauseRow.model == model))
    return before


def _spelt(pause: Pause) -> str:
    return "paused" if pause.until is None else f"paused until {spell(pause.until)}"
