"""The prediction log as blocks: many answers in one row.

What is in the log stays where it is and is found as before. Revision 0010, after 0009.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.orm import Session

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the blocks; nothing that is logged so far is in one."""
    op.create_table(
        "blocks",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("arm", sa.String(length=32), nullable=False),
        sa.Column("first_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("last_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("first_at", MOMENT, nullable=False),
        sa.Column("last_at", MOMENT, nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blocks")),
    )
    op.create_index(op.f("uq_blocks_first_id"), "blocks", ["first_id"], unique=True)
    op.create_index(op.f("ix_blocks_model_first_at"), "blocks", ["model", "first_at"])
    op.add_column(
        "predictions",
        sa.Column("packed", sa.Boolean(), nullable=False, server_default=sa.false()),
    )


def downgrade() -> None:
    """Unpack every block into rows, and remove the blocks."""
    from registry.log import unpack_blocks

    with Session(op.get_bind()) as session:
        unpack_blocks(session)
        session.flush()
    op.drop_column("predictions", "packed")
    op.drop_table("blocks")
