"""A model's history as the timeline that one shows to a colleague.

Accuracy is taken by the time of prediction, not by the arrival of labels: a point says how good
the answers of that stretch were. The window is cropped to where there is something to show, and
rows are counted in the database, so a busy month costs no more memory than a quiet hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any

from sqlalchemy.orm import Session

from monitoring import (
    EvidencePoint,
    Mark,
    SharePoint,
    Timeline,
    VersionNote,
)
from registry.course import Course, accuracy_course, accuracy_points
from registry.happenings import (
    first_signals,
    incident_notes,
    is_rollback,
    ledger_lines,
    marks_of,
    release_notes,
)
from registry.incidents import Incident, incident_history
from registry.release_history import releases
from registry.retrains import retrain_history
from registry.ripeness import immature_since
from registry.routing import Routing, routing_history
from registry.tallies import (
    PAUSE,
    Tally,
    count_answers,
    even_edges,
    extent,
    first_answers,
    gather,
    peak_evidence,
    tally_losses,
)

STRETCHES = 48  # points of accuracy along the axis, more where routings cut them
FINE_STRETCHES = 144  # of traffic and evidence
LEAST_ANSWERS = 20  # of a point of traffic, unless the routing changed
MOST_CUTS = 60  # routings that traffic and accuracy are cut at
MARGIN = 0.015  # of the window, left and right of what there is
NEAR = 0.1  # of the window: what happened so near to it is taken in
MOST_INCIDENTS = 1_000
SHOWN = 0.01  # of the window: less of it that is immature is not shown


def timeline(session: Session, model: str, start: datetime, end: datetime) -> Timeline:
    """Accuracy with its interval, evidence, traffic shares, marks and figures in [start, end).

    The timeline's own `start` and `end` are cropped to where there are predictions, evidence
    or something that happened near them; earlier and later marks are on the page alone.

    Args:
        session: Open transaction; nothing is written.
        model: The registered model's name.
        start: The first moment.
        end: The first moment that is no longer shown.
    """
    history = routing_history(session, model)
    moves = [routing for routing in history if start <= routing.at < end]
    incidents = [
        incident
        for incident in incident_history(session, model, limit=MOST_INCIDENTS)
        if incident.opened_at < end and (incident.resolved_at or end) >= start
    ]
    signals = first_signals(session, model)
    marks = [
        mark
        for mark in marks_of(history, incidents, signals, retrain_history(session, model))
        if start <= mark.at < end
    ]
    seen = extent(session, model, start, end)
    left, right = _crop(seen, marks, start, end)
    cuts = _cuts(session, model, moves, right)
    edges = even_edges(left, right, STRETCHES, cuts)
    losses = tally_losses(session, model, edges)
    fine = even_edges(left, right, FINE_STRETCHES, cuts)
    answers = count_answers(session, model, fine)
    versions = _versions(session, model, answers, losses, start, end)
    course = accuracy_course(losses, edges, cuts, incidents)
    back = sum(
        is_rollback(routing, before)
        for before, routing in zip([None, *history], history, strict=False)
        if start <= routing.at < end
    )
    young = immature_since(session, model, end)
    return Timeline(
        model=model,
        start=left,
        end=right,
        accuracy=accuracy_points(losses, edges),
        evidence=_evidence(session, model, fine, signals),
        shares=_shares(answers, fine, cuts),
        marks=marks,
        figures=_figures(versions, course, len(incidents), back),
        summary=_summary(versions, course, incidents, back),
        incidents=incident_notes(incidents, signals),
        versions=versions,
        ledger=ledger_lines(moves),
        immature=young if young and young < right - (right - left) * SHOWN else None,
    )


def _crop(
    seen: tuple[datetime, datetime] | None, marks: Sequence[Mark], start: datetime, end: datetime
) -> tuple[datetime, datetime]:
    """The part of [start, end) that has something to show, with small margins."""
    if seen is None:
        if not marks:
            return start, end
        seen = (marks[0].at, marks[-1].at)
    near = (seen[1] - seen[0]) * NEAR
    moments = [mark.at for mark in marks if seen[0] - near <= mark.at <= seen[1] + near]
    first, last = min([seen[0], *moments]), max([seen[1], *moments])
    margin = max((last - first) * MARGIN, timedelta(seconds=0.5))
    return max(start, first - margin), min(end, last + margin)


def _cuts(session: Session, model: str, moves: Sequence[Routing], end: datetime) -> list[datetime]:
    """When each routing was first obeyed: a moment after it was written."""
    if len(moves) > MOST_CUTS:
        return []
    return first_answers(session, model, [(one.generation, one.at) for one in moves], end)


def _evidence(
    session: Session, model: str, edges: Sequence[datetime], signals: Sequence[Mapping[Any, Any]]
) -> list[EvidencePoint]:
    """Samples, and the evidence of signals: what crossed a threshold was seldom sampled then."""
    points = peak_evidence(session, model, edges)
    names = {point.detector for point in points}
    points += [
        EvidencePoint(one["at"], one["kind"], one["evidence"], one["threshold"], one["version"])
        for one in signals
        if one["kind"] in names and edges[0] <= one["at"] < edges[-1]
    ]
    return sorted(points, key=lambda point: point.at)


def _shares(
    answers: Sequence[dict[int, int]], edges: Sequence[datetime], cuts: Iterable[datetime]
) -> list[SharePoint]:
    at_cut = {edges.index(cut) for cut in cuts if edges[0] < cut < edges[-1]}
    spans = gather([sum(count.values()) for count in answers], LEAST_ANSWERS, at_cut)
    points = []
    for span, following in zip_longest(spans, spans[1:]):
        counts: dict[int, int] = {}
        for here in answers[span.first : span.last]:
            for version, count in here.items():
                counts[version] = counts.get(version, 0) + count
        points += [
            SharePoint(edges[span.first], version, count / span.held)
            for version, count in sorted(counts.items())
        ]
        if following is None or following.first - span.last > PAUSE:
            points.append(SharePoint(edges[span.last], min(counts), 0.0))
    return points


def _versions(
    session: Session,
    model: str,
    answers: Sequence[dict[int, int]],
    losses: Sequence[dict[int, Tally]],
    start: datetime,
    end: datetime,
) -> list[VersionNote]:
    held = release_notes(releases(session, model), start, end)
    notes = []
    for version in sorted({*held, *(v for count in answers for v in count)}):
        whole = Tally()
        for tallies in losses:
            whole.add(tallies.get(version, Tally()))
        notes.append(
            VersionNote(
                version=version,
                answers=sum(count.get(version, 0) for count in answers),
                labels=whole.n,
                accuracy=whole.accuracy,
                releases=tuple(held.get(version, ())),
            )
        )
    return notes


def _figures(
    versions: Sequence[VersionNote], course: Course, incidents: int, back: int
) -> list[tuple[str, str]]:
    figures = [
        ("predictions", f"{sum(one.answers for one in versions):,}"),
        ("labels", f"{sum(one.labels for one in versions):,}"),
        ("accuracy before the first incident", _percent(course.before)),
        ("lowest accuracy", _percent(course.lowest)),
        ("accuracy now", _percent(course.now)),
        ("incidents", str(incidents)),
        ("rollbacks", str(back)),
    ]
    return [(name, value) for name, value in figures if value]


def _summary(
    versions: Sequence[VersionNote], course: Course, incidents: Sequence[Incident], back: int
) -> str:
    """What happened, in two sentences."""
    lowest, now = _percent(course.lowest), _percent(course.now)
    if course.lowest is None:
        accuracy = f"{sum(one.answers for one in versions):,} predictions, and no labels yet."
    elif course.before is not None and course.lowest < course.before:
        accuracy = f"Accuracy was {_percent(course.before)}, fell to {lowest} and is {now} now."
    else:
        accuracy = f"Accuracy is {now} now, and was {lowest} at its lowest."
    unresolved = sum(incident.state != "resolved" for incident in incidents)
    open_too = f" ({unresolved} not resolved yet)" if unresolved else ""
    return (
        f"{accuracy} There {'were' if len(incidents) > 1 else 'was'}"
        f" {_counted(len(incidents), 'incident')}{open_too} and {_counted(back, 'rollback')}."
    )


def _counted(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'s' if number > 1 else ''}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share * 100:.1f}\N{NO-BREAK SPACE}%"
