"""Releases: which version had which role, from when to when, and why it ended.

They are the ledger read by role, and are kept by `write_routing` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from registry.statements import columns_of
from registry.tables import ReleaseRow, VerdictRow

Role = Literal["champion", "challenger", "standby"]
ROLES: tuple[Role, ...] = ("champion", "challenger", "standby")


@dataclass(frozen=True)
class Release:
    """One version's time in one role: [from_at, to_at), open while `to_at` is None.

    `generation` is the number of the routing that began it; `digest` is empty where nobody
    told it.
    """

    id: int
    model: str
    version: int
    generation: int
    digest: str
    role: Role
    from_at: datetime
    to_at: datetime | None
    by: str
    why: str
    ended_why: str


def releases(
    session: Session, model: str, generations: tuple[int, int] | None = None
) -> list[Release]:
    """The releases of a model, oldest first.

    Args:
        session: Open transaction.
        model: The registered model's name.
        generations: The first and the last routing whose releases are wanted; None: of every one.
    """
    query = columns_of(ReleaseRow).where(ReleaseRow.model == model)
    if generations is not None:
        query = query.where(ReleaseRow.generation.between(*generations))
    rows = session.execute(query.order_by(ReleaseRow.from_at, ReleaseRow.id)).mappings()
    return [Release(**row) for row in rows]


def open_releases(session: Session, model: str) -> dict[Role, Release]:
    """The releases of a model that have not ended, by role."""
    query = columns_of(ReleaseRow).where(ReleaseRow.model == model, ReleaseRow.to_at.is_(None))
    found = [Release(**row) for row in session.execute(query).mappings()]
    return {one.role: one for one in found}


def find_release(session: Session, model: str, version: int) -> Release | None:
    """The newest release of a version, as champion where it ever was one."""
    query = (
        columns_of(ReleaseRow)
        .where(ReleaseRow.model == model, ReleaseRow.version == version)
        .order_by((ReleaseRow.role == "champion").desc(), ReleaseRow.id.desc())
        .limit(1)
    )
    row = session.execute(query).mappings().one_or_none()
    return None if row is None else Release(**row)


def digests_needed(session: Session, since: datetime) -> set[str]:
    """The digests that have a role in any model's routing, or had one since a moment."""
    query = select(ReleaseRow.digest).where(
        or_(ReleaseRow.to_at.is_(None), ReleaseRow.to_at >= since), ReleaseRow.digest != ""
    )
    return set(session.scalars(query.distinct()))


def move_releases(
    session: Session,
    model: str,
    generation: int,
    roles: Mapping[Role, int | None],
    at: datetime,
    actor: str,
    reason: str,
    digests: Mapping[int, str],
) -> None:
    """End the releases that a new routing ends and begin those that it begins.

    A version that keeps its role keeps its release.
    """
    query = select(ReleaseRow).where(ReleaseRow.model == model, ReleaseRow.to_at.is_(None))
    standing = {row.role: row for row in session.scalars(query)}
    for role in ROLES:
        version, present = roles[role], standing.get(role)
        if present is not None and present.version != version:
            present.to_at = at
            present.ended_why = reason
    session.flush()  # one release of a role is open at a time: the database holds that
    for role in ROLES:
        version, present = roles[role], standing.get(role)
        if version is not None and (present is None or present.version != version):
            session.add(
                ReleaseRow(
                    model=model,
                    version=version,
                    generation=generation,
                    digest=digests[version],
                    role=role,
                    from_at=at,
                    to_at=None,
                    by=actor,
                    why=reason,
                    ended_why="",
                )
            )
    session.flush()


def known_digest(session: Session, model: str, version: int) -> str:
    """The digest that a version was last judged or served with; empty where nobody told it."""
    for table in (VerdictRow, ReleaseRow):
        query = (
            select(table.digest)
            .where(table.model == model, table.version == version)
            .order_by(table.id.desc())
            .limit(1)
        )
        if digest := session.scalar(query):
            return digest
    return ""
