"""The tables of gateways and monitors: who is there, what was counted, what detectors had seen."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from registry.columns import Digest, Model, Serial, Table, Uuid


class GatewayRow(Table):
    """One gateway process, as it said of itself last; `serving` has an entry for each model.

    `counted_until` is the first window whose inputs it may still bring, `sent` the number of its
    newest message; `gone` if it fell silent without saying that it ends.
    """

    __tablename__ = "gateways"
    __table_args__ = (Index(None, "ended_at"),)

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    gone: Mapped[bool]
    sent: Mapped[int] = mapped_column(BigInteger)
    counted_until: Mapped[int] = mapped_column(BigInteger)
    serving: Mapped[dict[str, Any]]


class InputPartRow(Table):
    """What one gateway counted in one window of time, until it is added to what others did."""

    __tablename__ = "input_parts"
    __table_args__ = (Index(None, "model", "window"),)

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    model: Mapped[str] = mapped_column(Model)
    window: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[str] = mapped_column(Digest)
    generation: Mapped[int]
    rows: Mapped[int]
    counts: Mapped[bytes] = mapped_column(LargeBinary)


class InputCountRow(Table):
    """What all gateways counted of one version in one window: evidence in the order of numbers."""

    __tablename__ = "input_counts"

    model: Mapped[str] = mapped_column(Model, primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    window: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[str] = mapped_column(Digest)
    generation: Mapped[int]
    rows: Mapped[int]
    counts: Mapped[bytes] = mapped_column(LargeBinary)


class InputNumberRow(Table):
    """The number of a model's newest input counts."""

    __tablename__ = "input_numbers"

    model: Mapped[str] = mapped_column(Model, primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)


class EvidenceRow(Table):
    """A sample of one detector's evidence, for the timeline."""

    __tablename__ = "evidence"
    __table_args__ = (Index(None, "model", "at"),)

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    model: Mapped[str] = mapped_column(Model)
    version: Mapped[int]
    detector: Mapped[str] = mapped_column(String(255))
    at: Mapped[datetime]
    value: Mapped[float]
    threshold: Mapped[float]
    rows: Mapped[int] = mapped_column(BigInteger)


class DetectorStateRow(Table):
    """A detector's state as it was last saved, so that a restart forgets nothing."""

    __tablename__ = "detector_states"

    model: Mapped[str] = mapped_column(Model, primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    detector: Mapped[str] = mapped_column(String(255), primary_key=True)
    state: Mapped[Any] = mapped_column(JSON)
    at: Mapped[datetime]


class LeaseRow(Table):
    """Who may act under a name, until when; `token` grows with each new holder."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    holder: Mapped[str] = mapped_column(String(255))
    token: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime]
