"""Labels by model and time: when the newest came is one look-up. Revision 0011, after 0010."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    op.create_index(op.f("ix_labels_model_at"), "labels", ["model", "at"])


def downgrade() -> None:
    """Remove it."""
    op.drop_index(op.f("ix_labels_model_at"), "labels")
