"""A page of the history finds its releases by their generations.

Revision 0007, after 0006.
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    op.create_index(op.f("ix_releases_model_generation"), "releases", ["model", "generation"])


def downgrade() -> None:
    """Remove it."""
    op.drop_index(op.f("ix_releases_model_generation"), "releases")
