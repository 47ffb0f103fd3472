"""How late the labels of a model came."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.tables import LabelRow, PredictionRow


def lateness(session: Session, model: str, since: datetime, limit: int) -> list[timedelta]:
    """From the prediction to the label that stands, of the newest predictions since a moment.

    Args:
        session: Open transaction.
        model: The registered model's name.
        since: Only of what was predicted from then on.
        limit: Of at most so many, the newest.
    """
    query = (
        select(LabelRow.at, PredictionRow.at)
        .join(PredictionRow, PredictionRow.id == LabelRow.prediction_id)
        .where(
            LabelRow.status == "accepted",
            PredictionRow.model == model,
            PredictionRow.at >= since,
        )
        .order_by(PredictionRow.at.desc(), PredictionRow.id.desc())
        .limit(limit)
    )
    return [came - asked for came, asked in session.execute(query).tuples()]
