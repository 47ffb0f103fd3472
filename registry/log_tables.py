"""The tables of the prediction log: answers, labels and what they lost."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, LargeBinary, String, false, text
from sqlalchemy.orm import Mapped, mapped_column

from registry.columns import Model, Serial, Table, Uuid


class BlockRow(Table):
    """Answers of one arm, many in a row: see `registry.blocks`."""

    __tablename__ = "blocks"
    __table_args__ = (
        Index("uq_blocks_first_id", "first_id", unique=True),
        Index(None, "model", "first_at"),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    model: Mapped[str] = mapped_column(Model)
    version: Mapped[int]
    generation: Mapped[int]
    arm: Mapped[str] = mapped_column(String(32))
    first_id: Mapped[bytes] = mapped_column(LargeBinary(16))
    last_id: Mapped[bytes] = mapped_column(LargeBinary(16))
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]
    rows: Mapped[int]
    content: Mapped[bytes] = mapped_column(LargeBinary)


class PredictionRow(Table):
    """An answered prediction; `output` is little-endian float32, `columns` of them.

    What gateways log goes into blocks. Those that a label names are here as well (`packed`), and
    so is what was logged before there were blocks.
    """

    __tablename__ = "predictions"
    __table_args__ = (Index(None, "model", "at"), Index(None, "model", "version"))

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    model: Mapped[str] = mapped_column(Model)
    version: Mapped[int]
    generation: Mapped[int]
    arm: Mapped[str] = mapped_column(String(32))
    entity: Mapped[str]
    at: Mapped[datetime]
    row: Mapped[Any] = mapped_column(JSON)
    output: Mapped[bytes] = mapped_column(LargeBinary)
    columns: Mapped[int]
    answer: Mapped[dict[str, Any]]
    packed: Mapped[bool] = mapped_column(server_default=false())


class TrafficRow(Table):
    """The first and the last answer of one arm of one routing in one hour since 1970."""

    __tablename__ = "traffic"

    model: Mapped[str] = mapped_column(Model, primary_key=True)
    hour: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    generation: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    arm: Mapped[str] = mapped_column(String(32), primary_key=True)
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]


class ShadowRow(Table):
    """What another version answered to the same row, seen by nobody."""

    __tablename__ = "shadows"

    prediction_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    output: Mapped[bytes] = mapped_column(LargeBinary)


class LabelRow(Table):
    """A truth that somebody sent; at most one of a prediction is accepted.

    One that was `superseded` had been accepted, from its moment to that of the next.
    """

    __tablename__ = "labels"
    __table_args__ = (
        Index(None, "prediction_id"),
        Index(
            "uq_labels_accepted",
            "prediction_id",
            unique=True,
            sqlite_where=text("status = 'accepted'"),
            postgresql_where=text("status = 'accepted'"),
        ),
        Index(None, "status", "at"),
        Index(None, "model", "at"),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    prediction_id: Mapped[str]  # of an orphan it may be anything
    model: Mapped[str] = mapped_column(Model)
    value: Mapped[Any] = mapped_column(JSON)
    at: Mapped[datetime]
    source: Mapped[str]
    status: Mapped[str] = mapped_column(String(16))


class HeldLabelRow(Table):
    """A prediction whose label no retrain learns from before somebody has decided on it.

    `decision` is empty until then, `released` or `dropped` after.
    """

    __tablename__ = "held_labels"
    __table_args__ = (Index(None, "model", "decision"),)

    prediction_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    model: Mapped[str] = mapped_column(Model)
    source: Mapped[str]
    reason: Mapped[str] = mapped_column(String(16))
    text: Mapped[str]
    at: Mapped[datetime]
    decision: Mapped[str] = mapped_column(String(16))


class LossRow(Table):
    """The loss in [0, 1] of one version on one labelled prediction, shadows included.

    `call` is the number of the labels that it came with, `generation` that of the routing then.
    """

    __tablename__ = "losses"
    __table_args__ = (Index(None, "call"),)

    prediction_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    loss: Mapped[float]
    labelled_at: Mapped[datetime]
    call: Mapped[int] = mapped_column(BigInteger, server_default="0")
    generation: Mapped[int] = mapped_column(server_default="0")


class LossRevisionRow(Table):
    """A loss as a revised label has it, from `at` on; rows are added and never changed.

    The first stays in `losses`, where the detectors count it.
    """

    __tablename__ = "loss_revisions"
    __table_args__ = (Index(None, "prediction_id", "version"),)

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    prediction_id: Mapped[str] = mapped_column(Uuid)
    version: Mapped[int]
    loss: Mapped[float]
    at: Mapped[datetime]


class LabelCallRow(Table):
    """The number of the newest labels of a model: they count in the order of their numbers."""

    __tablename__ = "label_calls"

    model: Mapped[str] = mapped_column(Model, primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)
