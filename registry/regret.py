"""What a trial has cost its callers, beside what the better version alone would have."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session, aliased

from registry.tables import LossRow, PredictionRow


@dataclass(frozen=True)
class Regret:
    """Losses on the labelled rows of a trial that both versions answered.

    Args:
        rows: How many.
        given: Sum of what the callers' answers lost.
        champion: Sum of what the champion's answers lost, seen or unseen.
        challenger: Likewise.
    """

    rows: int
    given: float
    champion: float
    challenger: float

    @property
    def total(self) -> float:
        """Beyond what the version that has done better so far lost; below 0 by luck alone."""
        return self.given - min(self.champion, self.challenger)

    @property
    def even(self) -> float:
        """The same of an even split of the traffic, in the mean."""
        return abs(self.champion - self.challenger) / 2.0


def regret_of(
    session: Session, model: str, champion: int, challenger: int, since: datetime
) -> Regret:
    """The regret of a trial, by the labels as they first came, as its test takes them.

    Args:
        session: Open transaction.
        model: The registered model's name.
        champion: The one version.
        challenger: The other.
        since: When the trial began.
    """
    one, other = aliased(LossRow), aliased(LossRow)
    given = case((PredictionRow.version == challenger, other.loss), else_=one.loss)
    query = (
        select(func.count(), func.sum(given), func.sum(one.loss), func.sum(other.loss))
        .select_from(PredictionRow)
        .join(one, (one.prediction_id == PredictionRow.id) & (one.version == champion))
        .join(other, (other.prediction_id == PredictionRow.id) & (other.version == challenger))
        .where(
            PredictionRow.model == model,
            PredictionRow.at >= since,
            PredictionRow.version.in_((champion, challenger)),
        )
    )
    rows, lost, ours, theirs = session.execute(query).one()
    return Regret(rows, float(lost or 0.0), float(ours or 0.0), float(theirs or 0.0))
