"""`pins`, `restore`, `copy`: what is kept of versions, brought back, and carried elsewhere."""

from __future__ import annotations

from typing import Annotated

import typer

from homeostat.commands.output import AsJson, ModelName, Reason, say, show_json, show_table, when


def add_to(app: typer.Typer) -> None:
    """Register the commands of this file."""
    app.command()(pins)
    app.command()(restore)
    app.command()(copy)


def pins(
    model: ModelName,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every byte now; fetch again what is spoilt.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the pinned copies: of which version and release, which parts, whether they are whole."""
    from homeostat.client import Gateway
    from homeostat.settings import load_settings

    with Gateway.of(load_settings()) as gateway:
        found = gateway.pins(model, verify=verify)
    if as_json:
        show_json({"model": model, "pins": found})
        return
    show_table(
        ("version", "role", "release", "digest", "parts", "since", "state"),
        [
            (
                each["version"],
                each["role"],
                f"g{each['release']}" if each["release"] else None,
                each["digest"][:12],
                " ".join(each["parts"]),
                when(each["since"]),
                "whole" if each["whole"] else each["wrong"] or "not pinned yet",
            )
            for each in found
        ],
        empty=f"No version of {model} has a role yet.",
    )


def restore(
    model: ModelName,
    version: Annotated[
        int | None,
        typer.Option("--version", min=1, help="Which one; else every one with a role."),
    ] = None,
    reason: Reason = "MLflow lost it.",
    as_json: AsJson = False,
) -> None:
    """Register versions that MLflow lost again, from the pinned copies, with the same digests.

    Each gets a new number, and the routing names it by that; what answers does not change.
    """
    from homeostat.client import Gateway
    from homeostat.settings import load_settings

    with Gateway.of(load_settings()) as gateway:
        said = gateway.restore(model, version, reason)
    if as_json:
        show_json({"model": model, **said})
        return
    for each in said["restored"]:
        say(
            f"{model}:{each['version']} is what {model}:{each['was']} was, digest "
            f"{each['digest'][:12]}. {each['lost']}"
        )
    if said["generation"]:
        say(f"Generation {said['generation']} names it so; the answers show it.")


def copy(
    model: ModelName,
    version: Annotated[int, typer.Option("--version", min=1, help="Which one.")],
    to: Annotated[str, typer.Option("--to", help="The address of the other MLflow.")],
    reason: Reason,
    as_json: AsJson = False,
) -> None:
    """Register a version in another environment's MLflow, the same digest proven at both ends.

    It gets no alias there: what it may do is for the gates and the people of that environment.
    """
    from homeostat.clock import utc_now
    from homeostat.commands.show import mask_password
    from homeostat.settings import load_settings
    from registry.copying import copy_version
    from registry.database import connect, sessions, transaction
    from registry.ledger import record
    from registry.versions import MlflowVersions

    settings, now, there = load_settings(), utc_now(), mask_password(to)
    settings.policy(model)
    here = MlflowVersions(settings.mlflow_address)
    origin = f"version {version} at {mask_password(settings.mlflow_address)}"
    done = copy_version(here, MlflowVersions(to), model, version, origin, now)
    with transaction(sessions(connect(settings.database))) as session:
        record(
            session,
            model,
            "copy",
            actor="homeostat copy",
            reason=reason,
            at=now,
            before=None,
            after=f"version {done.version} at {there}",
            version=version,
            digest=done.digest,
        )
    if as_json:
        show_json({"model": model, "version": done.version, "digest": done.digest, "at": there})
        return
    say(f"{model}:{version} is version {done.version} at {there}, digest {done.digest}.")
