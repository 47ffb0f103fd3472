"""Accuracy over time, from losses counted by stretches: points with intervals, and its course."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from monitoring import AccuracyPoint, mean_interval
from registry.incident_records import Incident
from registry.tallies import GRID, Tally, gather

LEAST_LABELS = 20  # of a point of accuracy: fewer say little
LAST_LABELS = 100  # so many say how it is now
ERROR_RATE = 0.05  # of each interval


@dataclass(frozen=True)
class Course:
    """Accuracy of the answers given, whatever the version; None where no labels tell.

    Args:
        before: Before the cause of the first incident.
        lowest: Of the worst point.
        now: Of the last labels under the last routing, about a hundred.
    """

    before: float | None
    lowest: float | None
    now: float | None


def accuracy_points(
    losses: Sequence[dict[int, Tally]], edges: Sequence[datetime]
) -> list[AccuracyPoint]:
    """For each version its points, in order of time.

    Args:
        losses: By version, for each stretch.
        edges: The ends of the stretches: one more than there are.
    """
    points = [
        point
        for version in sorted({version for tallies in losses for version in tallies})
        for point in _points([one.get(version, Tally()) for one in losses], edges, version)
    ]
    return sorted(points, key=lambda point: (point.at, point.version))


def _points(
    tallies: Sequence[Tally], edges: Sequence[datetime], version: int
) -> list[AccuracyPoint]:
    """A point for each span of stretches with enough labels, where its labels lie."""
    points = []
    for span in gather([tally.n for tally in tallies], LEAST_LABELS):
        whole, weighted = Tally(), timedelta(0)
        for index in range(span.first, span.last):
            whole.add(tallies[index])
            middle = edges[index] + (edges[index + 1] - edges[index]) / 2
            weighted += (middle - edges[0]) * tallies[index].n
        mean = whole.total / whole.n
        values = [step / GRID for step in whole.grid]
        low, high = mean_interval(values, ERROR_RATE, list(whole.grid.values()))
        points.append(
            AccuracyPoint(
                at=edges[0] + weighted / whole.n,
                n=whole.n,
                mean=1.0 - mean,
                low=1.0 - max(high, mean),
                high=1.0 - min(low, mean),
                version=version,
            )
        )
    return points


def accuracy_course(
    losses: Sequence[dict[int, Tally]],
    edges: Sequence[datetime],
    cuts: Collection[datetime],
    incidents: Sequence[Incident],
) -> Course:
    """What callers were given.

    Args:
        losses: By version, for each stretch.
        edges: The ends of the stretches.
        cuts: When routings took effect.
        incidents: In any order.
    """
    overall = [_sum(tallies.values()) for tallies in losses]
    points = _points(overall, edges, 0)
    trouble = min((_since(incident) for incident in incidents), default=edges[0])
    calm = _sum(one for one, until in zip(overall, edges[1:], strict=True) if until <= trouble)
    last = Tally()
    for one, since in zip(reversed(overall), reversed(edges[:-1]), strict=True):
        if last.n < LAST_LABELS:
            last.add(one)
        if since in cuts and last.n >= LEAST_LABELS:
            break
    return Course(
        before=calm.accuracy if calm.n >= LEAST_LABELS else None,
        lowest=min((point.mean for point in points), default=None),
        now=last.accuracy,
    )


def _sum(tallies: Iterable[Tally]) -> Tally:
    whole = Tally()
    for tally in tallies:
        whole.add(tally)
    return whole


def _since(incident: Incident) -> datetime:
    """When its cause began, as far as its newest signal knows."""
    since = incident.details.get("since_at")
    try:
        begun = datetime.fromisoformat(since) if isinstance(since, str) else incident.opened_at
    except ValueError:
        return incident.opened_at
    return min(begun, incident.opened_at) if begun.tzinfo else incident.opened_at
