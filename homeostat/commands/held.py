"""`held`: labels that no retrain learns from before somebody has looked."""

from __future__ import annotations

from typing import Annotated

import typer

from homeostat.commands.output import AsJson, ModelName, say, show_json, show_table, when
from homeostat.errors import InputError


def add_to(app: typer.Typer) -> None:
    """Register the command of this file."""
    app.command()(held)


def held(
    model: ModelName,
    release: Annotated[
        bool, typer.Option("--release", help="Let them be learnt from; trusts their source.")
    ] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Never learn from them.")] = False,
    source: Annotated[
        str | None, typer.Option("--source", metavar="NAME", help="Only those of this source.")
    ] = None,
    ids: Annotated[
        list[str] | None, typer.Option("--id", metavar="ID", help="Only this prediction's.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the ledger.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show the labels that are held back from retrains and why; release or drop them."""
    from homeostat.client import Gateway
    from homeostat.settings import load_settings

    if release and drop:
        raise InputError("--release and --drop are both given.", remedy="Give one of them.")
    deciding = release or drop
    if deciding and not reason:
        raise InputError("There is no --reason.", remedy="Say why: it is kept in the ledger.")
    if not deciding and (source is not None or ids):
        raise InputError(
            "--source and --id choose what is decided on, and nothing is.",
            remedy="Give --release or --drop too.",
        )
    with Gateway.of(load_settings()) as gateway:
        if deciding:
            decision = "released" if release else "dropped"
            said = gateway.decide_labels(model, decision, reason, source=source, ids=ids or ())
            if as_json:
                show_json(said)
            else:
                say(f"{said['labels']} labels of {model} are {decision}.")
            return
        listed = gateway.held_labels(model)
    if as_json:
        show_json(listed)
        return
    if not listed:
        say(f"No label of {model} is held back.")
        return
    show_table(
        ("labels", "source", "reason", "since", "state", "prediction, for one"),
        [
            (
                str(each["count"]),
                each["source"] or "(no name)",
                each["reason"],
                when(each["first"]),
                each["decision"] or "held",
                each["ids"][0],
            )
            for each in listed
        ],
    )
    for each in listed:
        if not each["decision"]:
            say(each["text"])
