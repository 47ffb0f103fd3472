"""What really answered: the first and the last answer of each arm of each routing, by the hour.

It is made from the prediction log, and can be made from it again.

Revision 0005, after 0004.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
HOURS = {
    # The minutes are cut off as text: SQLite rounds fractions of a second up into the next hour.
    "sqlite": "CAST(strftime('%s', substr(at, 1, 13) || ':00:00') AS INTEGER) / 3600",
    "postgresql": "CAST(floor(extract(epoch FROM at) / 3600) AS INTEGER)",
}


def upgrade() -> None:
    """Count what is in the log."""
    traffic = op.create_table(
        "traffic",
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("hour", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("generation", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("arm", sa.String(length=32), nullable=False),
        sa.Column("first_at", MOMENT, nullable=False),
        sa.Column("last_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint(
            "model", "hour", "generation", "version", "arm", name=op.f("pk_traffic")
        ),
    )
    names = ("model", "generation", "version", "arm")
    log = sa.table("predictions", *map(sa.column, (*names, "at")))
    hour: sa.Label[int] = sa.literal_column(HOURS[op.get_bind().dialect.name]).label("hour")
    key = (log.c.model, hour, log.c.generation, log.c.version, log.c.arm)
    query = sa.select(*key, sa.func.min(log.c.at), sa.func.max(log.c.at)).group_by(*key)
    op.execute(sa.insert(traffic).from_select(list(traffic.c.keys()), query))


def downgrade() -> None:
    """Drop it."""
    op.drop_table("traffic")
