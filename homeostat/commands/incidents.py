"""`incidents`, `acknowledge`, `explain`: what on-call sees."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from homeostat.commands import alert_quality
from homeostat.commands.output import AsJson, say, show_json, when


def add_to(app: typer.Typer) -> None:
    """Register the commands of this file."""
    group = typer.Typer(name="incidents", invoke_without_command=True)
    group.callback()(incidents)
    group.command()(alert_quality.quality)
    group.command()(alert_quality.judge)
    app.add_typer(group)
    app.command()(acknowledge)
    app.command()(explain)
    app.command()(runbook)


def incidents(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List open incidents: what happened, the verdict, what was done, how to undo it."""
    if context.invoked_subcommand:
        return
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
        if ruled := each["details"].get("verdict"):  # none in what was opened by earlier releases
            named = ruled["verdict"].replace("-", " ")
            say(f"  verdict: {named}, {ruled['answer']}. {ruled['reason']}")
        for event in each["events"]:
            say(f"  {when(event['at'])}  {event['text']}")
        if each["undo"] and each["state"] != "resolved":
            say(f"  undo: {each['undo']}")
        if each["state"] != "resolved":
            say(f"  runbook: {each['runbook']}")
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


def explain(
    incident: Annotated[str, typer.Argument(metavar="ID", help="An incident's id.")],
    picture: Annotated[
        Path | None,
        typer.Option("--picture", metavar="FILE.png", help="Also draw what moved, as a PNG."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Explain an incident: what moved, from which bins to which, since when, at what evidence.

    It reads the lifecycle database and the version's own files, so it answers while gateway and
    MLflow are down.
    """
    import contextlib

    import msgspec

    from homeostat.clock import utc_now
    from homeostat.commands.lineage import database
    from registry.explanation_words import in_words
    from registry.explanations import Watched
    from registry.explanations import explain as look
    from registry.incidents import find_incident, unknown_incident
    from registry.versions import MlflowVersions
    from registry.watched import read_watched

    with database(read_only=True) as (settings, session):
        found = find_incident(session, incident)
        if found is None:
            raise unknown_incident(incident)
        policy = settings.policy(found.model)
        with contextlib.closing(MlflowVersions(settings.mlflow_address)) as store:

            def reader(model: str, version: int) -> Watched:
                return read_watched(store, settings.state_dir / "versions", policy, model, version)

            explanation = look(session, found, reader, utc_now())
    lines = in_words(explanation)
    if picture is not None:
        from monitoring.picturing import draw_shifts

        shifts = [one for each in explanation.looks for one in each.shifts if one.named]
        draw_shifts(lines[0], shifts, picture)
    if as_json:
        show_json(msgspec.to_builtins(explanation) | {"words": lines})
        return
    for line in lines:
        say(line)


def runbook(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="As an alert names it; else list them.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Print a runbook: what a kind of incident means, where to look, how to undo."""
    from pathlib import PurePath

    from homeostat.errors import InputError, Unavailable
    from monitoring.runbooks import RUNBOOKS, runbook_text

    if not name:
        if as_json:
            show_json(sorted(RUNBOOKS))
            return
        for one in sorted(RUNBOOKS):
            say(one)
        return
    stem = PurePath(name).stem  # an address or a path of it will do
    if stem not in RUNBOOKS:
        raise InputError(
            f"There is no runbook '{name}'.", remedy="List them: homeostat runbook", runbook=name
        )
    text = runbook_text(stem)
    if text is None:
        raise Unavailable(
            f"The runbook {stem} is not on this machine.", remedy="See docs/runbooks."
        )
    if as_json:
        show_json({"runbook": stem, "text": text})
    else:
        say(text.rstrip())
