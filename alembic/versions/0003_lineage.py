"""Where each version comes from, and its number.

Revision 0003, after 0002.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table of lineages."""
    op.create_table(
        "lineage",
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("work_key", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("number", sa.String(length=32), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("record", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("model", "work_key", name=op.f("pk_lineage")),
        sa.UniqueConstraint("model", "number", name=op.f("uq_lineage_model_number")),
        sa.UniqueConstraint("model", "version", name=op.f("uq_lineage_model_version")),
    )
    op.create_index(op.f("ix_lineage_digest"), "lineage", ["digest"])


def downgrade() -> None:
    """Remove it."""
    op.drop_table("lineage")
