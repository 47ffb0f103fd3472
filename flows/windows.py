"""Two sides of a report: windows of the log, a version's answers, or what a version was judged by.

Shapes: N rows, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from flows.learning import Champion
from homeostat.errors import InputError
from models import Learner, guarded
from monitoring.report import PREDICTION, ROWS, TARGET
from registry.explanations import signal_notes
from registry.incidents import find_incident, unknown_incident
from registry.labels import labelled_rows_of
from registry.log import PredictionRecord
from registry.samples import sample_within

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy.orm import Session

RECENT = 0.25  # of the rows: the newest part, compared with the rest
PROFILE = "profile"
_AGES = timedelta(days=366)  # how far back a version's answers are looked for


@dataclass(frozen=True)
class Side:
    """Rows to compare, and in words what they are.

    Args:
        rows: A column for each feature, `prediction`, and `target` (missing: not labelled).
        about: Such as `a random 20,000 of the 81,000 answers from 12:00 to 13:00`.
    """

    rows: pd.DataFrame
    about: str


def newest_part(
    session: Session, model: str, champion: Champion, start: datetime, end: datetime
) -> tuple[Side, Side]:
    """The newest quarter of the answers of [start, end), and the rest."""
    sample = sample_within(session, model, start, end, ROWS)
    turn = len(sample.rows) - int(len(sample.rows) * RECENT)
    parts = ("the newest quarter", sample.rows[turn:]), ("the rest", sample.rows[:turn])
    drawn = "" if sample.whole else f", a random {len(sample.rows):,} of {sample.total:,}"
    span = f"of the answers from {_when(start)} to {_when(end)}{drawn}"
    now, then = (
        Side(frame(session, champion.learner, rows), f"{name} {span}") for name, rows in parts
    )
    return now, then


def window(
    session: Session,
    model: str,
    champion: Champion,
    start: datetime,
    end: datetime,
    version: int | None = None,
) -> Side:
    """The answers of [start, end), of one version or of all."""
    sample = sample_within(session, model, start, end, ROWS, version)
    drawn = "all" if sample.whole else f"a random {len(sample.rows):,}"
    of = f" of version {version}" if version is not None else ""
    about = f"{drawn} of {sample.total:,} answers{of} from {_when(start)} to {_when(end)}"
    return Side(frame(session, champion.learner, sample.rows), about)


def other_side(
    session: Session, model: str, champion: Champion, start: datetime, end: datetime, against: str
) -> Side:
    """What the answers of [start, end) are compared with.

    Args:
        session: Open transaction.
        model: The registered model's name.
        champion: Encodes the rows.
        start: Of the window.
        end: Of the window.
        against: Empty: as long just before; `profile`: what the champion was judged by; a number:
            the answers of that version until `end`; `FROM/TO`: another window.

    Raises:
        InputError: it is none of these.
    """
    if not against:
        return window(session, model, champion, start - (end - start), start)
    if against == PROFILE:
        return judged_by(champion)
    if against.isdecimal():
        return window(session, model, champion, end - _AGES, end, int(against))
    try:
        first, last = (datetime.fromisoformat(part) for part in against.split("/"))
        return window(session, model, champion, first, last)
    except (ValueError, TypeError):
        raise InputError(
            f"'{against}' is nothing to compare with.",
            remedy="Give a version's number, `profile`, or two moments as FROM/TO.",
        ) from None


def judged_by(champion: Champion) -> Side:
    """The held-out rows of the newest regime, with the version's answers and the truths."""
    number = champion.regimes.numbers[-1]
    held, learner = champion.regimes.get(number), champion.learner
    with torch.no_grad():
        outputs = learner.predict(champion.module, held.x)
    answers = guarded(learner.answers, outputs)
    rows = _frame(learner, held.x, answers, dict(enumerate(guarded(learner.truths, held.y))))
    return Side(
        rows, f"the {len(held):,} held-out rows that version {champion.version} was judged by"
    )


def of_incident(session: Session, incident_id: str, now: datetime) -> tuple[datetime, datetime]:
    """From the estimated change to the incident's end.

    Raises:
        InputError: there is no such incident.
    """
    found = find_incident(session, incident_id)
    if found is None:
        raise unknown_incident(incident_id)
    since = [note.since_at for note in signal_notes(session, incident_id)]
    return min([*since, found.opened_at]), found.resolved_at or now


def frame(session: Session, learner: Learner, records: Sequence[PredictionRecord]) -> pd.DataFrame:
    """What the monitors watch of logged answers, with what was answered and the truth if known."""
    labels = {row.id: row.value for row in labelled_rows_of(session, [one.id for one in records])}
    truths = {place: labels[one.id] for place, one in enumerate(records) if one.id in labels}
    encoded = guarded(learner.encode, [one.row for one in records])
    return _frame(learner, encoded, [one.answer for one in records], truths)


def _frame(
    learner: Learner,
    encoded: torch.Tensor,
    answers: Sequence[dict[str, Any]],
    truths: dict[int, Any],
) -> pd.DataFrame:
    import pandas as pd

    names = [feature.name for feature in learner.features]
    observed = guarded(learner.observe, encoded) if len(encoded) else np.empty((0, len(names)))
    rows = pd.DataFrame(observed, columns=names)
    said = [answer.get("prediction") for answer in answers]
    known = [truths.get(place) for place in range(len(answers))]
    if learner.task == "regression":
        rows[PREDICTION] = np.array(said, dtype=np.float64)
        rows[TARGET] = np.array(known, dtype=np.float64)
    else:
        rows[PREDICTION] = [None if one is None else str(one) for one in said]
        rows[TARGET] = [None if one is None else str(one) for one in known]
    return rows


def _when(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"
