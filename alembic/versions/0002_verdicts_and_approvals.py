"""Verdicts as the JSON that was hashed, and people's approval of exactly one of them.

Revision 0002, after 0001.
"""

from __future__ import annotations

import hashlib
import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)

VERDICTS = sa.table(
    "verdicts",
    sa.column("id", sa.BigInteger),
    sa.column("digest", sa.String),
    sa.column("passed", sa.Boolean),
    sa.column("figures", sa.JSON),
    sa.column("document", sa.Text),
    sa.column("hash", sa.String),
)


def upgrade() -> None:
    """Write each verdict's document from its figures; make the table of approvals."""
    op.add_column("verdicts", sa.Column("document", sa.Text(), server_default="", nullable=False))
    op.add_column(
        "verdicts", sa.Column("hash", sa.String(length=64), server_default="", nullable=False)
    )
    connection = op.get_bind()
    kept = (VERDICTS.c.id, VERDICTS.c.digest, VERDICTS.c.passed, VERDICTS.c.figures)
    for number, digest, passed, figures in connection.execute(sa.select(*kept)).all():
        document = _document(digest, passed, figures)
        hashed = hashlib.sha256(document.encode()).hexdigest()
        connection.execute(
            sa.update(VERDICTS)
            .where(VERDICTS.c.id == number)
            .values(document=document, hash=hashed)
        )
    op.drop_column("verdicts", "figures")
    op.create_table(
        "approvals",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("verdict", sa.String(length=64), nullable=False),
        sa.Column("person", sa.String(length=255), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approvals")),
        sa.UniqueConstraint(
            "model",
            "version",
            "verdict",
            "person",
            name=op.f("uq_approvals_model_version_verdict_person"),
        ),
    )


def downgrade() -> None:
    """Keep the figures of each verdict; approvals and what else it said go."""
    op.drop_table("approvals")
    op.add_column("verdicts", sa.Column("figures", sa.JSON(), server_default="[]", nullable=False))
    connection = op.get_bind()
    for number, document in connection.execute(sa.select(VERDICTS.c.id, VERDICTS.c.document)).all():
        connection.execute(
            sa.update(VERDICTS)
            .where(VERDICTS.c.id == number)
            .values(figures=json.loads(document)["figures"])
        )
    op.drop_column("verdicts", "hash")
    op.drop_column("verdicts", "document")


def _document(digest: str, passed: bool, figures: list[dict[str, object]]) -> str:
    """A verdict of before in canonical JSON; by which policy it was reached nobody wrote down."""
    said = {
        "schema": 2,
        "passed": passed,
        "digest": digest,
        "error_rate": 0.0,
        "policy": {},
        "at": None,
        "figures": [{"details": {}, **figure} for figure in figures],
    }
    return json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False)
