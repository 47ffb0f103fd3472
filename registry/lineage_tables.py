"""The tables of lineage: where versions came from, and the regimes that they were measured on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.columns import Digest, Model, Table, Uuid


class EdgeRow(Table):
    """How one artifact came from another; at most one parent for each kind."""

    __tablename__ = "edges"
    __table_args__ = (Index(None, "parent"),)

    child: Mapped[str] = mapped_column(Digest, primary_key=True)
    kind: Mapped[str] = mapped_column(String(32), primary_key=True)
    parent: Mapped[str] = mapped_column(Digest)
    recipe: Mapped[dict[str, Any]]


class LineageRow(Table):
    """Where a version comes from, by the work that made it; `version` once it is registered."""

    __tablename__ = "lineage"
    __table_args__ = (
        UniqueConstraint("model", "number"),
        UniqueConstraint("model", "version"),
        Index(None, "digest"),
    )

    model: Mapped[str] = mapped_column(Model, primary_key=True)
    work_key: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[int | None]
    number: Mapped[str] = mapped_column(String(32))
    digest: Mapped[str] = mapped_column(Digest)
    record: Mapped[dict[str, Any]]
    at: Mapped[datetime]


class RegimeRow(Table):
    """A stretch of data between drifts, by its number."""

    __tablename__ = "regimes"

    model: Mapped[str] = mapped_column(Model, primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    opened_at: Mapped[datetime]
    incident_id: Mapped[str] = mapped_column(Uuid)
    version: Mapped[int]
