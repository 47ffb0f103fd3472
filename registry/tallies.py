"""Answers, losses and evidence counted by stretches of time, in the database.

A busy day has millions of predictions: what comes here is a few numbers for each stretch, so
memory is bounded by the number of stretches. Each count is one query over a range of an index.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from sqlalchemy import ColumnElement, and_, func, literal_column, select
from sqlalchemy.orm import Session

from monitoring import EvidencePoint
from registry.blocks import batches_of, overlapping
from registry.losses import known, revised, revisions
from registry.tables import BlockRow, EvidenceRow, LossRow, PredictionRow

# Losses are counted on a grid of this many steps: an interval needs their distribution, and a
# rounding by 1/500 at most is far below its width.
GRID = 250
ARMS = 4  # blocks that may begin before another one and hold a moment after it
PAUSE = 3  # stretches without anything: longer ones are pauses of the traffic


@dataclass
class Tally:
    """Losses of one version in one stretch: how many, their sum, and their counts on the grid."""

    n: int = 0
    total: float = 0.0
    grid: dict[int, int] = field(default_factory=dict)

    @property
    def accuracy(self) -> float | None:
        """1 - the mean loss."""
        return 1.0 - self.total / self.n if self.n else None

    def add(self, other: Tally) -> None:
        """Take in another tally."""
        self.n += other.n
        self.total += other.total
        for step, count in other.grid.items():
            self.grid[step] = self.grid.get(step, 0) + count


def even_edges(
    start: datetime, end: datetime, number: int, cuts: Collection[datetime] = ()
) -> list[datetime]:
    """The ends of `number` equal stretches of [start, end], cut further at `cuts`."""
    step = (end - start) / number
    even = {start + step * index for index in range(number)} | {end}
    return sorted(even | {cut for cut in cuts if start < cut < end})


def count_answers(session: Session, model: str, edges: Sequence[datetime]) -> list[dict[int, int]]:
    """How many predictions each version answered, for each stretch between two edges."""
    query = select(PredictionRow.version, func.count()).group_by(PredictionRow.version)
    found = []
    for left, right in pairwise(edges):
        singly = session.execute(query.where(*_within(model, left, right), ~PredictionRow.packed))
        counts: dict[int, int] = {row[0]: row[1] for row in singly}
        for version, count in _count_in_blocks(session, model, left, right):
            counts[version] = counts.get(version, 0) + count
        found.append(counts)
    return found


def tally_losses(session: Session, model: str, edges: Sequence[datetime]) -> list[dict[int, Tally]]:
    """The losses of the answers that callers were given, by stretch and version.

    By the time of prediction, not by the arrival of labels.
    """
    # As literals: PostgreSQL takes two parameters for two expressions, even of the same value.
    later = revisions()
    step = func.round(known(later) * literal_column(str(float(GRID)))).label("step")
    query = (
        select(LossRow.version, step, func.count(), func.sum(known(later)))
        .select_from(LossRow)
        .join(
            PredictionRow,
            (PredictionRow.id == LossRow.prediction_id)
            & (PredictionRow.version == LossRow.version),
        )
        .outerjoin(later, revised(later))
        .group_by(LossRow.version, step)
    )
    found = []
    for left, right in pairwise(edges):
        tallies: dict[int, Tally] = {}
        for version, at_step, count, total in session.execute(
            query.where(*_within(model, left, right))
        ):
            part = Tally(count, float(total), {int(at_step): count})
            tallies.setdefault(version, Tally()).add(part)
        found.append(tallies)
    return found


def peak_evidence(session: Session, model: str, edges: Sequence[datetime]) -> list[EvidencePoint]:
    """The highest evidence of each detector in each stretch, in order of time."""
    query = select(
        func.max(EvidenceRow.at),
        EvidenceRow.detector,
        func.max(EvidenceRow.value),
        func.max(EvidenceRow.threshold),
        EvidenceRow.version,
    ).group_by(EvidenceRow.detector, EvidenceRow.version)
    points = []
    for left, right in pairwise(edges):
        here = query.where(
            EvidenceRow.model == model, EvidenceRow.at >= left, EvidenceRow.at < right
        )
        points += [EvidencePoint(*row) for row in session.execute(here)]
    return sorted(points, key=lambda point: point.at)


def first_answers(
    session: Session, model: str, moves: Sequence[tuple[int, datetime]], end: datetime
) -> list[datetime]:
    """When the first answer of each routing (its generation, and since when) was given.

    A routing without an answer stands with its own moment.
    """
    found = []
    for generation, since in moves:
        singly = session.scalar(
            select(PredictionRow.at)
            .where(*_within(model, since, end), PredictionRow.generation >= generation)
            .order_by(PredictionRow.at)
            .limit(1)
        )
        packed = session.scalars(
            select(BlockRow.content)
            .where(*overlapping(model, since, end), BlockRow.generation >= generation)
            .order_by(BlockRow.first_at)
            .limit(ARMS)
        )
        firsts = [singly] if singly else []
        firsts += [at for content in packed for at in _moments(content) if since <= at < end]
        found.append(min(firsts, default=since))
    return found


def extent(
    session: Session, model: str, start: datetime, end: datetime
) -> tuple[datetime, datetime] | None:
    """The first and the last moment of predictions and evidence in [start, end)."""
    moments = []
    for table in (PredictionRow, EvidenceRow):
        query = select(table.at).where(table.model == model, table.at >= start, table.at < end)
        # Two look-ups in the index; both ends in one query would read all of it.
        for order in (table.at.asc(), table.at.desc()):
            moment = session.scalar(query.order_by(order).limit(1))
            if moment is not None:
                moments.append(moment)
    blocks = select(BlockRow.content).where(*overlapping(model, start, end))
    for order in (BlockRow.first_at.asc(), BlockRow.first_at.desc()):
        for content in session.scalars(blocks.order_by(order).limit(ARMS)):
            moments += [at for at in _moments(content) if start <= at < end]
    return (min(moments), max(moments)) if moments else None


@dataclass
class Span:
    """The stretches [first, last), and what they hold together."""

    first: int
    last: int
    held: int

    def take(self, other: Span) -> None:
        """Reach to the end of a later span."""
        self.last = other.last
        self.held += other.held


def gather(counts: Sequence[int], least: int, cuts: Collection[int] = ()) -> list[Span]:
    """Join neighbouring stretches into spans that hold `least` each, where that can be.

    No span reaches over a cut, nor over a pause when it can do without: what is left over
    before one joins the span before it.

    Args:
        counts: Of each stretch.
        least: What a span has to hold.
        cuts: Stretches that a new span begins with.
    """
    spans: list[Span] = []
    for index, count in enumerate(counts):
        if not count:
            continue
        here = Span(index, index + 1, count)
        if spans and spans[-1].held < least and not _is_cut(spans[-1], here, cuts):
            near = here.first - spans[-1].last <= PAUSE
            if near or not (len(spans) > 1 and _adjoin(spans[-2], spans[-1], cuts)):
                spans[-1].take(here)
                continue
        spans.append(here)
    joined: list[Span] = []
    for span in spans:
        if joined and span.held < least and _adjoin(joined[-1], span, cuts):
            joined[-1].take(span)
        else:
            joined.append(span)
    return joined


def _is_cut(one: Span, other: Span, cuts: Collection[int]) -> bool:
    return any(one.last <= cut <= other.first for cut in cuts)


def _adjoin(one: Span, other: Span, cuts: Collection[int]) -> bool:
    return other.first - one.last <= PAUSE and not _is_cut(one, other, cuts)


def _within(model: str, left: datetime, right: datetime) -> tuple[ColumnElement[bool], ...]:
    return (PredictionRow.model == model, PredictionRow.at >= left, PredictionRow.at < right)


def _count_in_blocks(
    session: Session, model: str, left: datetime, right: datetime
) -> Iterator[tuple[int, int]]:
    """How many predictions a version answered in [left, right), in parts."""
    whole = (BlockRow.first_at >= left, BlockRow.last_at < right)
    there = overlapping(model, left, right)
    query = select(BlockRow.version, func.sum(BlockRow.rows)).where(*there, *whole)
    for version, count in session.execute(query.group_by(BlockRow.version)):
        yield version, int(count)
    cut = select(BlockRow.version, BlockRow.content).where(*there, ~and_(*whole))
    for version, content in session.execute(cut):
        inside = [one.count for one in batches_of(content) if left <= one.moment < right]
        yield version, sum(inside)


def _moments(content: bytes) -> list[datetime]:
    return [batch.moment for batch in batches_of(content)]
