"""`incidents`, `acknowledge`: what on-call sees."""

from __future__ import annotations

from typing import Annotated

import typer

from homeostat.commands.output import AsJson, say, show_json, show_table, when


def add_to(app: typer.Typer) -> None:
    """Register the commands of this file."""
    app.command()(incidents)
    app.command()(acknowledge)


def incidents(as_json: AsJson = False) -> None:
    """List the incidents: what happened, what was done, how to undo it."""
    from homeostat.client import Gateway
    from homeostat.settings import load_settings

    with Gateway.of(load_settings()) as gateway:
        said = gateway.incidents()
    if as_json:
        show_json(said)
        return
    listed = said if isinstance(said, list) else said.get("incidents") or said.get("items") or []
    show_table(
        ("opened", "id", "model", "state", "severity", "title", "undo"),
        [
            (
                when(each.get("opened_at")),
                each.get("id"),
                each.get("model"),
                each.get("state"),
                each.get("severity"),
                each.get("title"),
                each.get("undo"),
            )
            for each in listed
        ],
        empty="No incident.",
    )


def acknowledge(
    incident: Annotated[str, typer.Argument(metavar="ID", help="An incident's id.")],
    as_json: AsJson = False,
) -> None:
    """Take an incident on: on-call is told that somebody has it."""
    from homeostat.client import Gateway
    from homeostat.settings import load_settings

    with Gateway.of(load_settings()) as gateway:
        said = gateway.acknowledge(incident)
    if as_json:
        show_json(said)
    else:
        say(f"Incident {incident} is acknowledged.")
