"""`automation`, `quarantine`: what may happen by itself, and what was barred by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from homeostat.commands.output import (
    AsJson,
    ModelName,
    Reason,
    Version,
    say,
    show_json,
    show_table,
    when,
)

automation = typer.Typer(
    name="automation",
    help="Pause all automation of a model, or let it act again.",
    no_args_is_help=True,
)
quarantine = typer.Typer(
    name="quarantine",
    help="What was taken out for good: list it, or let it go.",
    no_args_is_help=True,
)


def add_to(parent: typer.Typer) -> None:
    """Register the commands of this file."""
    parent.add_typer(automation)
    parent.add_typer(quarantine)


@automation.command()
def pause(
    model: ModelName,
    reason: Reason,
    hours: Annotated[
        float | None,
        typer.Option("--hours", min=0.01, help="It ends by itself then; not given: never."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let nothing move by itself: no retrain, trial, promotion or rollback by labels.

    Incidents are opened and told as ever, each with the command that is due. A version that fails
    its callers is still taken out.
    """
    from homeostat.client import Gateway
    from homeostat.settings import load_settings

    with Gateway.of(load_settings()) as gateway:
        said = gateway.automation(model, "pause", reason, hours=hours)
    if as_json:
        show_json(said)
        return
    say(said_of_pause(model, said["pause"]))


@automation.command()
def resume(model: ModelName, reason: Reason, as_json: AsJson = False) -> None:
    """Let it act again: what is due is done within seconds."""
    from homeostat.client import Gateway
    from homeostat.settings import load_settings

    with Gateway.of(load_settings()) as gateway:
        said = gateway.automation(model, "resume", reason)
    if as_json:
        show_json(said)
        return
    say(f"Automation of {model} acts again, by its policy.")


@quarantine.command("list")
def list_barred(model: ModelName, as_json: AsJson = False) -> None:
    """Show which versions may not answer, and why."""
    from homeostat.client import Gateway
    from homeostat.settings import load_settings

    with Gateway.of(load_settings()) as gateway:
        found = gateway.quarantine(model)
    if as_json:
        show_json(found)
        return
    show_table(
        ("version", "since", "by", "why", "digest"),
        [
            (one["version"], when(one["at"]), one["by"], one["reason"], one["digest"][:12])
            for one in found
        ],
        empty=f"No version of {model} is in quarantine.",
    )


@quarantine.command()
def release(model: ModelName, version: Version, reason: Reason, as_json: AsJson = False) -> None:
    """Let a version out of quarantine. It gets no traffic by that: its gates are asked as ever."""
    from homeostat.client import Gateway
    from homeostat.settings import load_settings

    with Gateway.of(load_settings()) as gateway:
        said = gateway.release(model, version, reason)
    if as_json:
        show_json(said)
        return
    say(f"Version {version} of {model} is in quarantine no more; it answers nothing by that.")


def said_of_pause(model: str, found: Mapping[str, Any]) -> str:
    """A pause in one line."""
    end = f"until {when(found['until'])} UTC" if found["until"] else "until somebody ends it"
    since = when(found["since"])
    return f"Automation of {model} is PAUSED by {found['by']} since {since} UTC, {end}: " + str(
        found["reason"]
    )
