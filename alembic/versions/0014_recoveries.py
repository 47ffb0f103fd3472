"""Changes that are being learnt until it is well again, and what each retrain brought.

Revision 0014, after 0013.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table and the column."""
    op.create_table(
        "recoveries",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("incident_id", sa.String(length=36), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("change_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("healthy", sa.Double(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recoveries")),
        sa.UniqueConstraint("incident_id", name=op.f("uq_recoveries_incident_id")),
    )
    op.create_index(
        "uq_recoveries_open",
        "recoveries",
        ["model"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.add_column("retrains", sa.Column("learnt", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Remove them."""
    op.drop_column("retrains", "learnt")
    op.drop_table("recoveries")
