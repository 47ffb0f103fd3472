"""The tables of incidents: signals, what was told of them, and retrains that they asked for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from registry.columns import Key, Model, Serial, Table, Uuid


class IncidentRow(Table):
    """What on-call sees: all signals of one cause; one is unresolved for each cause."""

    __tablename__ = "incidents"
    __table_args__ = (
        UniqueConstraint("key"),
        Index(
            "uq_incidents_open",
            "model",
            "cause",
            unique=True,
            sqlite_where=text("state <> 'resolved'"),
            postgresql_where=text("state <> 'resolved'"),
        ),
        Index(None, "model", "opened_at"),
    )

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    model: Mapped[str] = mapped_column(Model)
    cause: Mapped[str] = mapped_column(Key)
    key: Mapped[str] = mapped_column(Key)
    kind: Mapped[str] = mapped_column(String(32))
    severity: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16))
    title: Mapped[str]
    opened_at: Mapped[datetime]
    resolved_at: Mapped[datetime | None]
    version: Mapped[int]
    undo: Mapped[str]
    details: Mapped[dict[str, Any]]
    events: Mapped[list[IncidentEventRow]] = relationship(
        lazy="raise", order_by="IncidentEventRow.id"
    )


class IncidentEventRow(Table):
    """One line of an incident's story."""

    __tablename__ = "incident_events"
    __table_args__ = (Index(None, "incident_id"),)

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    incident_id: Mapped[str] = mapped_column(ForeignKey("incidents.id"))
    at: Mapped[datetime]
    text: Mapped[str]


class SignalRow(Table):
    """A detector's evidence that crossed its threshold."""

    __tablename__ = "signals"
    __table_args__ = (Index(None, "incident_id"), Index(None, "model", "at"))

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    incident_id: Mapped[str] = mapped_column(ForeignKey("incidents.id"))
    model: Mapped[str] = mapped_column(Model)
    version: Mapped[int]
    kind: Mapped[str] = mapped_column(String(32))
    detector: Mapped[str] = mapped_column(String(255))
    evidence: Mapped[float]
    threshold: Mapped[float]
    rows: Mapped[int]
    since: Mapped[int]
    details: Mapped[dict[str, Any]]
    at: Mapped[datetime]


class OutboxRow(Table):
    """An alert that has to reach one address, at least once."""

    __tablename__ = "outbox"
    __table_args__ = (
        UniqueConstraint("alert_id", "url"),
        Index(None, "delivered_at", "next_at"),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    incident_id: Mapped[str | None] = mapped_column(ForeignKey("incidents.id"))
    alert_id: Mapped[str] = mapped_column(Key)
    url: Mapped[str]
    alert: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    next_at: Mapped[datetime]
    attempts: Mapped[int]
    delivered_at: Mapped[datetime | None]
    error: Mapped[str]


class RetrainRow(Table):
    """A retrain that was asked for; at most one of a model has not ended."""

    __tablename__ = "retrains"
    __table_args__ = (
        UniqueConstraint("key"),
        Index(
            "uq_retrains_running",
            "model",
            unique=True,
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
        Index(None, "model", "at"),
    )

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    model: Mapped[str] = mapped_column(Model)
    incident_id: Mapped[str] = mapped_column(Uuid)  # empty: asked for by hand or by schedule
    key: Mapped[str] = mapped_column(Key)
    state: Mapped[str] = mapped_column(String(16))
    flow_run_id: Mapped[str]
    at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str]
    learnt: Mapped[dict[str, Any] | None]  # by the flow, of a retrain that made a version


class RecoveryRow(Table):
    """A change that is being learnt until it is well again; one of a model is open at most."""

    __tablename__ = "recoveries"
    __table_args__ = (
        UniqueConstraint("incident_id"),
        Index(
            "uq_recoveries_open",
            "model",
            unique=True,
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    model: Mapped[str] = mapped_column(Model)
    incident_id: Mapped[str] = mapped_column(Uuid)
    version: Mapped[int]
    change_at: Mapped[datetime]
    healthy: Mapped[float]
    opened_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str]
