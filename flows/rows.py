"""What a retrain learns from: the labelled rows of the log since the change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from homeostat.errors import DataError, InputError
from homeostat.policy import RetrainPolicy
from models import Dataset
from registry.held_labels import screen
from registry.incidents import Incident, find_incident
from registry.labels import LabelledRow, labelled_rows, labelled_rows_of
from registry.recoveries import learnt_until, recovery_of

MAX_ROWS = 50_000  # the newest so many: beyond, more rows teach little and cost minutes
MIN_ROWS = 20  # fewer cannot be split into what to learn from and what to judge by
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def read_incident(session: Session, model: str, incident_id: str) -> Incident | None:
    """The incident that asks for a retrain, or None where none was named.

    Raises:
        InputError: there is no such incident, or it is another model's.
    """
    if not incident_id:
        return None
    incident = find_incident(session, incident_id)
    if incident is None or incident.model != model:
        raise InputError(
            f"There is no incident '{incident_id}' of '{model}'.",
            remedy="Name one of `homeostat status`, or none.",
            incident=incident_id,
        )
    return incident


def rows_since_change(
    session: Session, model: str, incident: Incident | None, policy: RetrainPolicy, now: datetime
) -> tuple[list[LabelledRow], int]:
    """The labelled rows that a retrain about an incident learns, oldest first.

    They are those predicted since the change, or, where a version that learnt some of them took
    all traffic already, since the newest of these.

    The incident's detector estimates the moment of the change (`since_at` of its details);
    where there is none the incident's opening counts, which is later and so never takes rows
    of the former regime. Without an incident the policy's `min_labels` newest rows are taken.

    Returns:
        The rows, and how many more are held back until a person has looked at their labels.

    Raises:
        DataError: too few rows to learn from.
    """
    start = BEGINNING
    if incident is None:
        found = labelled_rows(session, model, BEGINNING, policy.min_labels)
    else:
        start = _first_moment(session, incident)
        found = labelled_rows(session, model, start, MAX_ROWS)
    rows = found
    if policy.screen_labels and found:
        since = change_point(incident) if incident else found[0].at
        rows = screen(session, model, found, since, now)
    held = len(found) - len(rows)
    if len(rows) < MIN_ROWS:
        since_when = f" since {start:%Y-%m-%d %H:%M:%S} UTC" if incident else ""
        kept_back = f", {held} of them held back" if held else ""
        raise DataError(
            f"The log has {len(found)} labelled rows of '{model}'{since_when}{kept_back}:"
            " too few to learn from.",
            remedy=(
                f"Look at what is held back and release it: `homeostat held {model}`."
                if held
                else f"Send labels: {MIN_ROWS} are the least, {policy.min_labels} are advised."
            ),
            rows=len(rows),
        )
    return rows, held


def rows_again(
    session: Session,
    model: str,
    incident: Incident | None,
    policy: RetrainPolicy,
    ids: Sequence[str],
    now: datetime,
) -> list[LabelledRow]:
    """The rows of these predictions; none where one is gone, or is not to be learnt any more."""
    rows = found = labelled_rows_of(session, ids)
    if policy.screen_labels and found:
        since = change_point(incident) if incident else found[0].at
        rows = screen(session, model, found, since, now)
    return rows if len(rows) == len(ids) else []


def change_point(incident: Incident) -> datetime:
    """When the change began, by the estimate of the incident's newest signal."""
    estimate = incident.details.get("since_at")
    if isinstance(estimate, str):
        try:
            moment = datetime.fromisoformat(estimate)
        except ValueError:
            return incident.opened_at
        if moment.tzinfo is not None:
            return moment
    return incident.opened_at


def _first_moment(session: Session, incident: Incident) -> datetime:
    """Where a retrain about an incident begins to read."""
    record = recovery_of(session, incident.id)
    if record is None:
        return change_point(incident)
    return learnt_until(session, record) or record.change_at


def as_dataset(rows: Sequence[LabelledRow]) -> Dataset:
    """Logged rows as a data set, in their order."""
    return Dataset.of([row.row for row in rows], [row.value for row in rows])
