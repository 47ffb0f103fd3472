"""What a model's labels can tell: how late they come, how many, of which predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from homeostat.errors import InputError
from monitoring.delays import MATURE, difference, learn_delays, sooner
from registry.losses import known, revised, revisions
from registry.tables import BlockRow, LabelRow, LossRow, PredictionRow

SPAN = timedelta(days=7)
MOST = 200_000  # labels that are read; of more the newest predictions' and so a shorter span
_GROWTH = 1.1  # of the ages that predictions without a label are counted by

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cohort:
    """Predictions of one stretch of time.

    Args:
        predictions: How many were answered.
        labels: How many of these have a label with a loss.
        loss: The mean loss of those, in [0, 1]; None without any.
    """

    predictions: int
    labels: int
    loss: float | None

    @property
    def coverage(self) -> float:
        """The share that is labelled."""
        return self.labels / self.predictions if self.predictions else 0.0


@dataclass(frozen=True)
class LabelReport:
    """What a model's labels of the last `SPAN` can tell.

    Args:
        mature_after: Seconds after which a prediction has its label, if it gets one, with
            probability `MATURE`; None: no label came.
        final: The share of predictions that ever get one, as far as is known.
        mature: Predictions older than that: what is said of their accuracy stands.
        immature: Younger ones: the rest of their labels may say otherwise.
        quick: Mean loss of the mature labels that came sooner than the median of their time.
        slow: Mean loss of the others.
        gap: 99 % limits of quick - slow: above 0, wrong answers are labelled sooner.
        since: The first prediction that is looked at; later than `SPAN` says if there are more
            than `MOST` labels: then `capped`.
        revised: Labels that were revised.
        as_of: The time at which all that was believed; None: it is what is known now.
        known: The same predictions with the labels of now; None where that is no other time.
    """

    mature_after: float | None
    final: float
    mature: Cohort
    immature: Cohort
    quick: float | None
    slow: float | None
    gap: tuple[float, float]
    since: datetime
    capped: bool
    revised: int
    as_of: datetime | None = None
    known: Cohort | None = None


def label_report(
    session: Session, model: str, now: datetime, as_of: datetime | None = None
) -> LabelReport:
    """Read the labels of predictions made in the last `SPAN`, of whichever version answered.

    Args:
        session: Open transaction.
        model: The registered model's name.
        now: The present moment.
        as_of: Of the time before that moment, as it was believed then.

    Raises:
        InputError: that lies in the future.
    """
    if as_of is not None and as_of > now:
        raise InputError(
            f"{as_of.isoformat()} lies in the future: nothing is believed then yet.",
            remedy="Give a moment that is over.",
        )
    end = as_of or now
    start, capped = _start(session, model, end)
    logged = _logged(session, model, start, end)
    labelled = _labelled(session, model, start, end, end)
    old, delay, loss, revision = labelled.T if len(labelled) else np.zeros((4, 0))
    edges = np.r_[0.0, _GROWTH ** np.arange(0, 150), np.inf]
    rows = np.histogram(logged[:, 0], edges, weights=logged[:, 1])[0]
    waiting = np.maximum(rows - np.histogram(old, edges)[0], 0.0)
    ages = np.histogram(logged[:, 0], edges, weights=logged[:, 0] * logged[:, 1])[0]
    curve = learn_delays(delay, ages / np.maximum(rows, 1.0), waiting)
    after = curve.mature_after()
    limit = np.inf if after is None else after
    ripe = old >= limit
    quick = np.zeros(len(old), dtype=bool)
    quick[ripe] = sooner(old[ripe], delay[ripe])
    return LabelReport(
        mature_after=after,
        final=curve.final,
        mature=_cohort(logged[logged[:, 0] >= limit, 1], loss[ripe]),
        immature=_cohort(logged[logged[:, 0] < limit, 1], loss[~ripe]),
        quick=_mean(loss[ripe & quick]),
        slow=_mean(loss[ripe & ~quick]),
        gap=difference(loss[ripe & quick], loss[ripe & ~quick]),
        since=start,
        capped=capped,
        revised=int(revision.sum()),
        as_of=as_of,
        known=_cohort(logged[:, 1], _labelled(session, model, start, end, now)[:, 2])
        if as_of
        else None,
    )


def newest_labels(session: Session, model: str, limit: int) -> list[Any]:
    """The truths of those of a model's newest `limit` labels that are accepted, newest first."""
    # The status is looked at here: asked for it too, a database may read all other models' labels.
    query = (
        select(LabelRow.value, LabelRow.status)
        .where(LabelRow.model == model)
        .order_by(LabelRow.at.desc(), LabelRow.id.desc())
        .limit(limit)
    )
    return [value for value, status in session.execute(query) if status == "accepted"]


def _start(session: Session, model: str, end: datetime) -> tuple[datetime, bool]:
    """The first moment whose labels are looked at, and whether it is later than `SPAN` says."""
    query = (
        select(PredictionRow.at)
        .join(LossRow, LossRow.prediction_id == PredictionRow.id)
        .where(PredictionRow.model == model, PredictionRow.at.between(end - SPAN, end))
        .where(LossRow.version == PredictionRow.version)
        .order_by(PredictionRow.at.desc())
        .offset(MOST)
        .limit(1)
    )
    found = session.scalar(query)
    return (end - SPAN, False) if found is None else (found, True)


def _logged(session: Session, model: str, start: datetime, now: datetime) -> Floats:
    """(B, 2) age in seconds and rows, of each block of the log."""
    query = select(BlockRow.first_at, BlockRow.rows).where(
        BlockRow.model == model, BlockRow.first_at.between(start, now)
    )
    found = [((now - at).total_seconds(), rows) for at, rows in session.execute(query)]
    # What was logged before there were blocks is a row for each prediction.
    old = select(PredictionRow.at).where(
        PredictionRow.model == model,
        PredictionRow.at.between(start, now),
        PredictionRow.packed.is_(False),
    )
    found += [((now - at).total_seconds(), 1) for at in session.scalars(old)]
    return _table(found, 2)


def _labelled(
    session: Session, model: str, start: datetime, end: datetime, known_at: datetime
) -> Floats:
    """(L, 4) of predictions in [start, end] with what was known at a moment.

    Their age at `end`, their age when the label came, both in seconds; loss; 1 if it was revised.
    """
    later = revisions(known_at)
    query = (
        select(PredictionRow.at, LossRow.labelled_at, known(later), later.c.loss.is_not(None))
        .join(
            LossRow,
            (LossRow.prediction_id == PredictionRow.id)
            & (LossRow.version == PredictionRow.version),
        )
        .outerjoin(later, revised(later))
        .where(
            PredictionRow.model == model,
            PredictionRow.at.between(start, end),
            LossRow.labelled_at <= known_at,
        )
    )
    found = [
        ((end - at).total_seconds(), max(0.0, (came - at).total_seconds()), loss, revision)
        for at, came, loss, revision in session.execute(query)
    ]
    return _table(found, 4)


def _table(rows: Sequence[tuple[float, ...]], width: int) -> Floats:
    return np.array(rows, dtype=np.float64).reshape(-1, width)


def _cohort(rows: Floats, losses: Floats) -> Cohort:
    return Cohort(int(rows.sum()), len(losses), _mean(losses))


def _mean(losses: Floats) -> float | None:
    return float(losses.mean()) if len(losses) else None


__all__ = ["MATURE", "MOST", "SPAN", "Cohort", "LabelReport", "label_report"]
