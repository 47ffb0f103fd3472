"""The order in which labels count, the same for every gateway.

Revision 0008, after 0007.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Number the labels from now on; those from before have the number 0."""
    op.create_table(
        "label_calls",
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_label_calls")),
    )
    op.add_column("losses", sa.Column("call", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column(
        "losses", sa.Column("generation", sa.Integer(), server_default="0", nullable=False)
    )
    op.drop_index(op.f("ix_losses_version_labelled_at"), "losses")
    op.create_index(op.f("ix_losses_call"), "losses", ["call"])


def downgrade() -> None:
    """Remove the numbers."""
    op.drop_index(op.f("ix_losses_call"), "losses")
    op.create_index(op.f("ix_losses_version_labelled_at"), "losses", ["version", "labelled_at"])
    op.drop_column("losses", "generation")
    op.drop_column("losses", "call")
    op.drop_table("label_calls")
