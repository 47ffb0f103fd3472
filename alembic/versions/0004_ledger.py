"""One ledger for every change of routing or alias, where routings had a chain of their own.

Every routing becomes a line with the number of its generation. Its hash is made anew, because a
line says more than a routing did, so each taken-over ledger ends with a line that keeps the last
hash of the old chain and whether that chain was whole. The way down keeps the routings; what the
older schema has no place for (notes on aliases, overrides, quarantines) is lost.

Revision 0004, after 0003.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)
SPELT = sa.String(length=27).with_variant(sa.String(length=27, collation="C"), "postgresql")
FIRST_HASH = "0" * 64
SPLIT = ("champion", "challenger", "standby", "phase", "canary_share")
OLD = ("model", "generation", *SPLIT, "actor", "reason", "evidence", "previous_hash")
STEP = 1_000


def upgrade() -> None:
    """Make the ledger of the routings."""
    ledger = op.create_table(
        "ledger",
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("line", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("at", SPELT, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("previous_hash", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("model", "line", name=op.f("pk_ledger")),
        sqlite_with_rowid=False,
    )
    for columns in (["model", "kind", "generation"], ["model", "kind", "at", "line"]):
        op.create_index(op.f(f"ix_ledger_{'_'.join(columns)}"), "ledger", columns)
    _insert(ledger, _lines())
    op.drop_table("routings")


def downgrade() -> None:
    """Make the routings of the ledger, with a chain of their own."""
    op.create_table(
        "routings",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("champion", sa.Integer(), nullable=False),
        sa.Column("challenger", sa.Integer(), nullable=True),
        sa.Column("standby", sa.Integer(), nullable=True),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("canary_share", sa.Double(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("previous_hash", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_routings")),
        sa.UniqueConstraint("model", "generation", name=op.f("uq_routings_model_generation")),
    )
    _insert(_routings_table(), _routings())
    op.drop_table("ledger")


def _lines() -> Iterator[dict[str, Any]]:
    """Every routing as a line, and behind each model's a line on where they came from."""
    connection = op.get_bind()
    known = {
        (model, version): digest
        for model, version, digest in connection.execute(
            sa.text("SELECT model, version, digest FROM releases WHERE digest <> '' ORDER BY id")
        )
    }
    table = _routings_table()
    query = sa.select(table).order_by(table.c.model, table.c.generation)
    line: dict[str, Any] | None = None
    old, whole = FIRST_HASH, True
    for row in connection.execute(query).mappings().all():
        if line is None or line["model"] != row["model"]:
            if line is not None:
                yield _taken_over(line, old, whole)
            line, old, whole = None, FIRST_HASH, True
        at = row["at"] if row["at"].tzinfo else row["at"].replace(tzinfo=UTC)
        whole = whole and row["previous_hash"] == old and row["hash"] == _old_hash(dict(row), at)
        old = row["hash"]
        roles = [row[role] for role in SPLIT[:3] if row[role] is not None]
        held = {str(v): known[row["model"], v] for v in roles if (row["model"], v) in known}
        line = _line(
            line,
            model=row["model"],
            kind="routing",
            generation=row["generation"],
            version=row["champion"],
            digest=held.get(str(row["champion"]), ""),
            at=_spell(at),
            actor=row["actor"],
            reason=row["reason"],
            before=line["after"] if line else None,
            after=_compact({name: row[name] for name in SPLIT} | {"digests": held}),
            evidence=row["evidence"],
        )
        yield line
    if line is not None:
        yield _taken_over(line, old, whole)


def _taken_over(last: dict[str, Any], old: str, whole: bool) -> dict[str, Any]:
    return _line(
        last,
        model=last["model"],
        kind="migration",
        generation=last["generation"],
        version=None,
        digest="",
        at=_spell(datetime.now(UTC)),
        actor="homeostat db upgrade",
        reason="The routings before this line were taken over from the schema before it.",
        before=f"{last['line']} routings, last hash {old}",
        after=None,
        evidence=_compact({"chain_was_whole": whole}),
    )


def _line(last: dict[str, Any] | None, **values: object) -> dict[str, Any]:
    values |= {
        "line": last["line"] + 1 if last else 1,
        "previous_hash": last["hash"] if last else FIRST_HASH,
    }
    content = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return values | {"hash": hashlib.sha256(content.encode()).hexdigest()}


def _routings() -> Iterator[dict[str, Any]]:
    """Every line that is a routing as it was in the older schema."""
    query = sa.text(
        "SELECT model, generation, at, actor, reason, after, evidence FROM ledger"
        " WHERE kind = 'routing' ORDER BY model, generation"
    )
    model, last = "", FIRST_HASH
    for row in op.get_bind().execute(query).mappings().all():
        if row["model"] != model:
            model, last = row["model"], FIRST_HASH
        split = json.loads(row["after"])
        at = datetime.fromisoformat(row["at"])
        values = {name: row[name] for name in ("model", "generation", "actor", "reason")}
        values |= {name: split[name] for name in SPLIT}
        values |= {"evidence": row["evidence"], "previous_hash": last}
        last = _old_hash(values, at)
        yield values | {"at": at, "hash": last}


def _old_hash(row: Mapping[str, Any], at: datetime) -> str:
    content = {name: row[name] for name in OLD}
    content["at"] = at.astimezone(UTC).isoformat(timespec="microseconds")
    return hashlib.sha256(_compact(content).encode()).hexdigest()


def _routings_table() -> sa.Table:
    columns: list[sa.Column[Any]] = [sa.Column(name) for name in (*OLD, "hash")]
    return sa.Table("routings", sa.MetaData(), *columns, sa.Column("at", MOMENT))


def _insert(table: sa.Table, rows: Iterator[dict[str, Any]]) -> None:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == STEP:
            op.bulk_insert(table, batch)
            batch = []
    if batch:
        op.bulk_insert(table, batch)


def _spell(moment: datetime) -> str:
    text = moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    return f"{text}Z"


def _compact(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
