"""Losses of labels that were revised, beside those of the first: both views stay readable.

Revision 0012, after 0011.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table; rows of it are added and never changed."""
    op.create_table(
        "loss_revisions",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("prediction_id", sa.String(length=36), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("loss", sa.Double(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_loss_revisions")),
    )
    op.create_index(
        op.f("ix_loss_revisions_prediction_id_version"),
        "loss_revisions",
        ["prediction_id", "version"],
    )


def downgrade() -> None:
    """Remove it."""
    op.drop_table("loss_revisions")
