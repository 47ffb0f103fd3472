"""`incidents`, `acknowledge`: what on-call sees."""

from __future__ import annotations

from typing import Annotated

import typer

from homeostat.commands.output import AsJson, say, show_json, when


def add_to(app: typer.Typer) -> None:
    """Register the commands of this file."""
    app.command()(incidents)
    app.command()(acknowledge)


def incidents(
    every: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List open incidents: what happened, what was done, how to undo it."""
    from homeostat.client import Gateway
    from homeostat.settings import load_settings

    with Gateway.of(load_settings()) as gateway:
        listed = gateway.incidents(every=every)
    if as_json:
        show_json(listed)
        return
    for each in listed:
        say(f"{each['id']}  {each['model']}  {each['state']}  {each['severity']}")
        say(f"  {each['title']}")
        for event in each["events"]:
            say(f"  {when(event['at'])}  {event['text']}")
        if each["undo"] and each["state"] != "resolved":
            say(f"  undo: {each['undo']}")
    if not listed:
        say("No incident." if every else "No open incident.")


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
