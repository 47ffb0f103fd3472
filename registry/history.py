"""A model's history as the timeline that one shows to a colleague.

Accuracy is taken by the time of prediction, not by the arrival of labels: a point says how good
the answers of that stretch were.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monitoring import (
    AccuracyPoint,
    EvidencePoint,
    Mark,
    SharePoint,
    Timeline,
    mean_interval,
)
from registry.evidence import evidence_series
from registry.incidents import Incident, incident_history
from registry.labels import LossPoint, loss_series
from registry.retrains import retrain_history
from registry.routing import Routing, routing_history
from registry.tables import LabelRow, PredictionRow

STRETCHES = 60  # points along the time axis
ERROR_RATE = 0.05  # of each interval


def timeline(session: Session, model: str, start: datetime, end: datetime) -> Timeline:
    """Accuracy with its interval, evidence, traffic shares, marks and figures in [start, end).

    Args:
        session: Open transaction; nothing is written.
        model: The registered model's name.
        start: The first moment.
        end: The first moment that is no longer shown.
    """
    stretch = max((end - start) / STRETCHES, timedelta(microseconds=1))
    losses = loss_series(session, model, start, end)
    history = routing_history(session, model)
    incidents = [
        incident
        for incident in incident_history(session, model, limit=10_000)
        if incident.opened_at < end and (incident.resolved_at or end) >= start
    ]
    return Timeline(
        model=model,
        start=start,
        end=end,
        accuracy=_accuracy(losses, start, stretch),
        evidence=[
            EvidencePoint(sample.at, sample.detector, sample.value, sample.threshold)
            for sample in evidence_series(session, model, start, end)
        ],
        shares=_shares(session, model, start, end, stretch),
        marks=_marks(session, model, history, incidents, start, end),
        figures=_figures(session, model, losses, history, incidents, start, end),
    )


def _accuracy(losses: list[LossPoint], start: datetime, stretch: timedelta) -> list[AccuracyPoint]:
    groups: dict[tuple[int, int], list[float]] = {}
    for point in losses:
        groups.setdefault(((point.at - start) // stretch, point.version), []).append(point.loss)
    points = []
    for (number, version), values in sorted(groups.items()):
        array = np.asarray(values, dtype=np.float64)
        low, high = mean_interval(array, ERROR_RATE)
        points.append(
            AccuracyPoint(
                at=start + stretch * (number + 0.5),
                n=len(values),
                mean=1.0 - float(array.mean()),
                low=1.0 - high,
                high=1.0 - low,
                version=version,
            )
        )
    return points


def _shares(
    session: Session, model: str, start: datetime, end: datetime, stretch: timedelta
) -> list[SharePoint]:
    counts: dict[int, dict[int, int]] = {}
    for number in range(STRETCHES):
        left = start + stretch * number
        right = min(left + stretch, end) if number < STRETCHES - 1 else end
        # A count for each stretch by the index: the rows of a busy day need not come here.
        query = (
            select(PredictionRow.version, func.count())
            .where(PredictionRow.model == model, PredictionRow.at >= left, PredictionRow.at < right)
            .group_by(PredictionRow.version)
        )
        counts[number] = {row[0]: row[1] for row in session.execute(query)}
    versions = sorted({version for count in counts.values() for version in count})
    return [
        SharePoint(
            start + stretch * (number + 0.5), version, count.get(version, 0) / sum(count.values())
        )
        for number, count in counts.items()
        if count
        for version in versions
    ]


def _marks(
    session: Session,
    model: str,
    history: list[Routing],
    incidents: list[Incident],
    start: datetime,
    end: datetime,
) -> list[Mark]:
    marks = [
        Mark(routing.at, _kind(routing, before), _move(routing))
        for before, routing in zip([None, *history], history, strict=False)
    ]
    for incident in incidents:
        marks.append(Mark(incident.opened_at, "incident", incident.title))
        if incident.resolved_at is not None:
            marks.append(Mark(incident.resolved_at, "resolved", incident.title))
    for retrain in retrain_history(session, model):
        marks.append(Mark(retrain.at, "retrain", "Retrain asked for."))
        if retrain.ended_at is not None:
            marks.append(Mark(retrain.ended_at, "retrain", f"Retrain ended: {retrain.outcome}"))
    inside = [mark for mark in marks if start <= mark.at < end]
    return sorted(inside, key=lambda mark: mark.at)


def _kind(routing: Routing, before: Routing | None) -> str:
    if before is None or routing.champion not in (before.champion, before.standby):
        return "version"
    return "rollout" if routing.champion == before.champion else "rollback"


def _move(routing: Routing) -> str:
    roles = [f"champion v{routing.champion}"]
    if routing.challenger is not None:
        share = f" at {routing.canary_share:.0%}" if routing.phase == "canary" else ""
        roles.append(f"{routing.phase} v{routing.challenger}{share}")
    if routing.standby is not None:
        roles.append(f"standby v{routing.standby}")
    return f"g{routing.generation}: {', '.join(roles)}. {routing.reason}"


def _figures(
    session: Session,
    model: str,
    losses: list[LossPoint],
    history: list[Routing],
    incidents: list[Incident],
    start: datetime,
    end: datetime,
) -> list[tuple[str, str]]:
    asked = select(func.count()).where(
        PredictionRow.model == model, PredictionRow.at >= start, PredictionRow.at < end
    )
    labelled = (
        select(func.count())
        .select_from(PredictionRow)
        .join(LabelRow, LabelRow.prediction_id == PredictionRow.id)
        .where(
            LabelRow.status == "accepted",
            PredictionRow.model == model,
            PredictionRow.at >= start,
            PredictionRow.at < end,
        )
    )
    figures = [
        ("predictions", f"{session.scalar(asked) or 0:,}"),
        ("labelled", f"{session.scalar(labelled) or 0:,}"),
    ]
    by_version: dict[int, list[float]] = {}
    for point in losses:
        by_version.setdefault(point.version, []).append(point.loss)
    figures += [
        (f"accuracy of version {version}", f"{1.0 - float(np.mean(values)):.3f}")
        for version, values in sorted(by_version.items())
    ]
    moves = [routing for routing in history if start <= routing.at < end]
    figures += [("routings written", str(len(moves))), ("incidents", str(len(incidents)))]
    figures.append(("unresolved", str(sum(item.state != "resolved" for item in incidents))))
    return figures
