"""`adopt`: a version that somebody else logged becomes one of ours."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from homeostat.commands.output import AsJson, say, show_json


def add_to(app: typer.Typer) -> None:
    """Register the command of this file."""
    app.command()(adopt)


def adopt(
    address: Annotated[
        str, typer.Argument(metavar="models:/NAME/N", help="A version of MLflow's registry.")
    ],
    data: Annotated[
        str,
        typer.Option("--data", help="Parquet or CSV: labelled rows that it was not trained on."),
    ],
    label: Annotated[str, typer.Option("--label", help="The column that holds the truth.")],
    model: Annotated[
        str, typer.Option("--as", help="The model of the settings that it becomes; empty: NAME.")
    ] = "",
    task: Annotated[
        str,
        typer.Option("--task", help="classification or regression; empty: told by the labels."),
    ] = "",
    allow_code: Annotated[
        bool,
        typer.Option("--allow-code", help="Its format may run code of whoever logged it: let it."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Adopt a version that somebody else logged: profile it, judge it, give it its place."""
    from flows.adoption import adopt as adopt_version
    from flows.environment import prepare
    from flows.site import open_site, use_one_thread
    from homeostat.clock import utc_now
    from homeostat.settings import load_settings
    from models.data import read_dataset
    from registry.foreign import parse_address

    settings = load_settings()
    name, _ = parse_address(address)
    settings.policy(model or name)
    prepare(settings)
    use_one_thread()
    with open_site(settings) as site:
        done = adopt_version(
            site,
            model or name,
            address,
            read_dataset(data, label),
            utc_now(),
            source=data,
            task=task,
            allow_code=allow_code,
        )
    if as_json:
        show_json(done)
        return
    _tell(address, done)


def _tell(address: str, done: dict[str, Any]) -> None:
    say(f"{address} is version {done['version']} of {done['model']}: {done['place']}.")
    say(f"{done['reason']} Accuracy on the reference rows: {done['accuracy']:.3f}.")
    say(f"digest {done['digest']}")
    say(str(done["url"]))
