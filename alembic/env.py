"""How migrations run: on the connection that `registry.database` hands over, in one transaction.

There is no alembic.ini and no address here: `registry.upgrade(url)` is the way in.
"""

from __future__ import annotations

from alembic import context

from registry.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    render_as_batch=True,  # SQLite alters a table by making it anew
)
context.run_migrations()
