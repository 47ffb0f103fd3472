"""Labels that are held back from retrains until a person has looked at them.

Revision 0013, after 0012.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table: one row for each prediction whose label is, or was, held back."""
    op.create_table(
        "held_labels",
        sa.Column("prediction_id", sa.String(length=36), nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decision", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("prediction_id", name=op.f("pk_held_labels")),
    )
    op.create_index(op.f("ix_held_labels_model_decision"), "held_labels", ["model", "decision"])


def downgrade() -> None:
    """Remove it."""
    op.drop_table("held_labels")
