"""Lineage: how artifacts came from one another, and the regimes that they learnt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from homeostat.errors import Refused
from registry.statements import columns_of, insert_new
from registry.tables import EdgeRow, RegimeRow

EdgeKind = Literal[
    "continual_of",
    "adopted_from",
    "adapter_of",
    "quantized_of",
    "pruned_of",
    "distilled_from",
    "exported_from",
    "migrated_from",
    "index_of",
]


@dataclass(frozen=True)
class Edge:
    """One artifact made from another, both by digest, and how."""

    child: str
    parent: str
    kind: str
    recipe: dict[str, Any]


@dataclass(frozen=True)
class Regime:
    """A stretch of data between drifts; `version` is the one that first learnt it."""

    model: str
    number: int
    opened_at: datetime
    incident_id: str
    version: int


def record_edge(
    session: Session, child: str, parent: str, kind: EdgeKind, recipe: Mapping[str, Any]
) -> None:
    """Say that `child` was made from `parent`; again the same is once.

    Raises:
        Refused: it has another parent of that kind already.
    """
    statement = insert_new(session, EdgeRow, EdgeRow.child, EdgeRow.kind)
    session.execute(statement.values(child=child, kind=kind, parent=parent, recipe=dict(recipe)))
    present = session.scalar(
        select(EdgeRow.parent).where(EdgeRow.child == child, EdgeRow.kind == kind)
    )
    if present != parent:
        raise Refused(
            f"The artifact {child} is {kind} {present} already, not {parent}.",
            remedy="An artifact has one parent of each kind.",
        )


def parents(session: Session, digest: str) -> list[Edge]:
    """What an artifact was made from."""
    return _edges(session, EdgeRow.child == digest)


def children(session: Session, digest: str) -> list[Edge]:
    """What was made from an artifact."""
    return _edges(session, EdgeRow.parent == digest)


def open_regime(
    session: Session, model: str, incident_id: str, version: int, at: datetime
) -> Regime:
    """Give the next number to a new regime; the same incident gives the same one.

    The data that a model's first version learnt is regime 0, with an empty incident.
    """
    known = next(
        (item for item in regimes(session, model) if item.incident_id == incident_id), None
    )
    while known is None:
        newest = session.scalar(select(func.max(RegimeRow.number)).where(RegimeRow.model == model))
        number = 0 if newest is None else newest + 1
        statement = insert_new(session, RegimeRow, RegimeRow.model, RegimeRow.number).values(
            model=model, number=number, opened_at=at, incident_id=incident_id, version=version
        )
        if session.scalar(statement.returning(RegimeRow.number)) is not None:
            known = Regime(model, number, at, incident_id, version)
    return known


def regimes(session: Session, model: str) -> list[Regime]:
    """The regimes of a model, oldest first."""
    query = columns_of(RegimeRow).where(RegimeRow.model == model)
    rows = session.execute(query.order_by(RegimeRow.number)).mappings()
    return [Regime(**row) for row in rows]


def _edges(session: Session, condition: Any) -> list[Edge]:  # noqa: ANN401 - a SQL condition
    query = select(EdgeRow.child, EdgeRow.parent, EdgeRow.kind, EdgeRow.recipe).where(condition)
    return [Edge(*row) for row in session.execute(query.order_by(EdgeRow.kind))]
