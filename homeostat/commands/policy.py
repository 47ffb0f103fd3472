"""`policy explain`: what would happen to a model, in words."""

from __future__ import annotations

from typing import Annotated

import typer

from homeostat.commands.output import AsJson, say, show_json


def add_to(app: typer.Typer) -> None:
    """Register the commands of this file."""
    group = typer.Typer(
        name="policy", help="What may happen to each model by itself.", no_args_is_help=True
    )
    group.command()(explain)
    app.add_typer(group)


def explain(
    model: Annotated[
        str, typer.Argument(metavar="[MODEL]", help="A model of the settings; else all.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Say in words what would happen on each occasion, and within which bounds.

    It reads the settings alone: what it says of a changed file, the loop does after a restart.
    """
    import textwrap

    from homeostat import policy_words
    from homeostat.settings import load_settings

    settings = load_settings()
    names = [model] if model else list(settings.models)
    said = {name: policy_words.explain(settings.policy(name)) for name in names}
    if as_json:
        show_json(said)
        return
    for name, words in said.items():
        say(name)
        for occasion, sentences in words.items():
            say(f"\n  {occasion}")
            for sentence in sentences:
                say(textwrap.fill(sentence, 100, initial_indent="    ", subsequent_indent="      "))
        say("")
