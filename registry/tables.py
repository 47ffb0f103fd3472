"""The lifecycle database's tables, as typed SQLAlchemy 2 mappings.

Rows are the database's business: the functions of this room take and give frozen dataclasses,
so nothing outside holds a row that is tied to a session.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from registry.columns import Digest, Key, Model, Serial, SpeltMoment, Uuid
from registry.columns import Table as Table


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


class LedgerRow(Table):
    """One line of a model's append-only, hash-chained ledger; see `registry.ledger`."""

    __tablename__ = "ledger"
    __table_args__ = (
        Index(None, "model", "kind", "generation"),
        Index(None, "model", "kind", "at", "line"),
        # One tree, so that what is read is what was stored: no index stands in for a column.
        {"sqlite_with_rowid": False},
    )

    model: Mapped[str] = mapped_column(Model, primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(32))
    generation: Mapped[int]
    version: Mapped[int | None]
    digest: Mapped[str] = mapped_column(Digest)
    at: Mapped[datetime] = mapped_column(SpeltMoment)
    actor: Mapped[str]
    reason: Mapped[str]
    before: Mapped[str | None]
    after: Mapped[str | None]
    evidence: Mapped[str]  # canonical JSON as text, so that its bytes are what was hashed
    previous_hash: Mapped[str] = mapped_column(Digest)
    hash: Mapped[str] = mapped_column(Digest)


class ReleaseRow(Table):
    """One version's time in one role; at most one is open for each model and role."""

    __tablename__ = "releases"
    __table_args__ = (
        Index(None, "model", "version"),
        Index(None, "model", "generation"),
        Index(
            "uq_releases_open",
            "model",
            "role",
            unique=True,
            sqlite_where=text("to_at IS NULL"),
            postgresql_where=text("to_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    model: Mapped[str] = mapped_column(Model)
    version: Mapped[int]
    generation: Mapped[int]
    digest: Mapped[str] = mapped_column(Digest)
    role: Mapped[str] = mapped_column(String(16))
    from_at: Mapped[datetime]
    to_at: Mapped[datetime | None]
    by: Mapped[str]
    why: Mapped[str]
    ended_why: Mapped[str]


class VerdictRow(Table):
    """What the gates said of a version; the newest row of a version stands.

    `document` is canonical JSON as text, so that its bytes are what was hashed.
    """

    __tablename__ = "verdicts"
    __table_args__ = (Index(None, "model", "version"),)

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    model: Mapped[str] = mapped_column(Model)
    version: Mapped[int]
    digest: Mapped[str] = mapped_column(Digest)
    passed: Mapped[bool]
    document: Mapped[str]
    hash: Mapped[str] = mapped_column(Digest)
    at: Mapped[datetime]


class ApprovalRow(Table):
    """One person's word for a version, given on one verdict: on no other it counts."""

    __tablename__ = "approvals"
    __table_args__ = (UniqueConstraint("model", "version", "verdict", "person"),)

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    model: Mapped[str] = mapped_column(Model)
    version: Mapped[int]
    digest: Mapped[str] = mapped_column(Digest)
    verdict: Mapped[str] = mapped_column(Digest)
    person: Mapped[str] = mapped_column(String(255))
    token: Mapped[str] = mapped_column(Digest)
    reason: Mapped[str]
    at: Mapped[datetime]


class OverrideRow(Table):
    """A person's leave for a version without a passing verdict, until it expires."""

    __tablename__ = "overrides"
    __table_args__ = (Index(None, "model", "version"),)

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    model: Mapped[str] = mapped_column(Model)
    version: Mapped[int]
    actor: Mapped[str]
    reason: Mapped[str]
    expires_at: Mapped[datetime]
    at: Mapped[datetime]


class QuarantineRow(Table):
    """A digest that may not answer; `released_at` is when a person let it go again."""

    __tablename__ = "quarantine"
    __table_args__ = (
        Index(
            "uq_quarantine_open",
            "model",
            "digest",
            unique=True,
            sqlite_where=text("released_at IS NULL"),
            postgresql_where=text("released_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    model: Mapped[str] = mapped_column(Model)
    digest: Mapped[str] = mapped_column(Digest)
    reason: Mapped[str]
    at: Mapped[datetime]
    released_at: Mapped[datetime | None]


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


class LeaseRow(Table):
    """Who may act under a name, until when; `token` grows with each new holder."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    holder: Mapped[str] = mapped_column(String(255))
    token: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime]


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


class TokenRow(Table):
    """One secret of a named holder, as its hash; while it is rotated a name has two."""

    __tablename__ = "tokens"
    __table_args__ = (Index(None, "name"),)

    key: Mapped[str] = mapped_column(String(12), primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    hash: Mapped[str] = mapped_column(Digest)
    verbs: Mapped[list[str]] = mapped_column(JSON)
    models: Mapped[list[str]] = mapped_column(JSON)  # empty: all
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]
