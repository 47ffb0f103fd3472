"""Which gateways run, and what each of them counted of the inputs.

Revision 0009, after 0008.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "gateways",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.Column("gone", sa.Boolean(), nullable=False),
        sa.Column("sent", sa.BigInteger(), nullable=False),
        sa.Column("counted_until", sa.BigInteger(), nullable=False),
        sa.Column("serving", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gateways")),
    )
    op.create_index(op.f("ix_gateways_ended_at"), "gateways", ["ended_at"])
    op.create_table(
        "input_parts",
        sa.Column("id", SERIAL, nullable=False),
        *_counts(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_input_parts")),
    )
    op.create_index(op.f("ix_input_parts_model_window"), "input_parts", ["model", "window"])
    op.create_table(
        "input_counts",
        sa.Column("number", sa.BigInteger(), nullable=False),
        *_counts(),
        sa.PrimaryKeyConstraint("model", "number", name=op.f("pk_input_counts")),
    )
    op.create_table(
        "input_numbers",
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_input_numbers")),
    )


def downgrade() -> None:
    """Remove them: each gateway counts for itself then."""
    for table in ("input_numbers", "input_counts", "input_parts", "gateways"):
        op.drop_table(table)


def _counts() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("window", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("counts", sa.LargeBinary(), nullable=False),
    )
