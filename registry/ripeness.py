"""What the log says of which labels may count: `monitoring.ripening` says why they wait."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from homeostat.policy import Policy
from monitoring.delays import AT_RISK, MATURE
from monitoring.ripening import Ripe, complete_until, counts_after
from registry.losses import newest_call
from registry.tables import BlockRow, LossRow, PredictionRow

AHEAD = 4_000  # labelled predictions that one look goes through
NEWEST = 20_000  # labels from which delays are learnt
_CALLS = 2_000  # that these are looked for in


def complete_to(
    session: Session, model: str, after: datetime, least: float, settled: float = -math.inf
) -> Ripe | None:
    """Up to which moment what was predicted after another is complete, in seconds after that.

    Args:
        session: Open transaction.
        model: The registered model's name.
        after: Predictions later than this are looked at.
        least: The share of labels that is enough.
        settled: The moment up to which labels have settled, in seconds after the same.
    """
    made = PredictionRow.at
    labelled = session.scalars(
        select(made)
        .join(LossRow, LossRow.prediction_id == PredictionRow.id)
        .where(PredictionRow.model == model, made > after)
        .where(LossRow.version == PredictionRow.version)
        .order_by(made)
        .limit(AHEAD)
    ).all()
    if not labelled:
        return None
    blocks = session.execute(
        select(BlockRow.first_at, BlockRow.last_at, BlockRow.rows).where(
            BlockRow.model == model,
            BlockRow.first_at <= labelled[-1],
            BlockRow.last_at > after,
        )
    ).all()
    begun = [(max(one.first_at, after) - after).total_seconds() for one in blocks]
    rows = [one.rows * _left(one.first_at, one.last_at, after) for one in blocks]
    # What was logged before there were blocks is a row for each prediction.
    old = session.scalars(
        select(made)
        .where(PredictionRow.model == model, made > after, made <= labelled[-1])
        .where(PredictionRow.packed.is_(False))
    )
    begun += [(at - after).total_seconds() for at in old]
    rows += [1.0] * (len(begun) - len(rows))
    moments = [(at - after).total_seconds() for at in labelled]
    return complete_until(begun, rows, moments, least, settled)


def label_age(session: Session, model: str, now: datetime, tolerance: float) -> Ripe | None:
    """The age from which on labels count, by the newest ones; None: not known yet."""
    newest = _newest(session, model)
    first = session.scalar(select(func.min(PredictionRow.at)).where(PredictionRow.model == model))
    if first is None or not newest:
        return None
    took, losses = np.array(newest).T
    return counts_after(took, losses, (now - first).total_seconds(), tolerance)


def wait_for_labels(session: Session, model: str, now: datetime, policy: Policy) -> timedelta:
    """How old a prediction is when its label counts: by the policy, or by the newest labels."""
    stated = policy.monitor.label_delay_seconds
    if stated is not None:
        return timedelta(seconds=stated)
    age = label_age(session, model, now, policy.monitor.tolerance_loss)
    return timedelta(seconds=age.at if age else 0.0)


def immature_since(session: Session, model: str, now: datetime) -> datetime | None:
    """From when on predictions are younger than most of the newest labels took; None: unknown."""
    took = [delay for delay, _ in _newest(session, model)]
    if len(took) < AT_RISK:
        return None
    return now - timedelta(seconds=float(np.quantile(took, MATURE, method="higher")))


def _newest(session: Session, model: str) -> list[tuple[float, float]]:
    """The seconds that the newest labels took, and their losses, the newest first."""
    found = session.execute(
        select(PredictionRow.at, LossRow.labelled_at, LossRow.loss)
        .join(LossRow, LossRow.prediction_id == PredictionRow.id)
        .where(
            PredictionRow.model == model,
            LossRow.version == PredictionRow.version,
            LossRow.call > newest_call(session, model) - _CALLS,
        )
        .order_by(LossRow.call.desc())
        .limit(NEWEST)
    )
    return [(max(0.0, (came - at).total_seconds()), loss) for at, came, loss in found]


def _left(first: datetime, last: datetime, after: datetime) -> float:
    """The share of a block's rows that were answered after a moment, as if they came evenly."""
    return 1.0 if first > after else (last - after) / (last - first)
