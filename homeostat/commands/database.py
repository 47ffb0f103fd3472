"""`db`: the lifecycle database."""

from __future__ import annotations

import typer

from homeostat.commands.output import say


def add_to(app: typer.Typer) -> None:
    """Register the commands of this file."""
    group = typer.Typer(help="The lifecycle database.", no_args_is_help=True)
    group.command()(upgrade)
    app.add_typer(group, name="db")


def upgrade() -> None:
    """Bring the schema up to this version of Homeostat; keeps all data."""
    from homeostat.settings import load_settings
    from registry.database import upgrade as migrate

    settings = load_settings()
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    migrate(settings.database)
    say("The lifecycle database is up to date.")
