"""`promote`, `rollback`: which version answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from homeostat.commands.output import AsJson, ModelName, Reason, say, show_json

Expect = Annotated[
    int | None,
    typer.Option(
        "--expect", min=0, help="Only while this generation serves: who was first is told."
    ),
]
ROLES = ("champion", "challenger", "standby")


def add_to(app: typer.Typer) -> None:
    """Register the commands of this file."""
    app.command()(promote)
    app.command()(rollback)


def promote(
    model: ModelName,
    version: Annotated[int, typer.Option("--version", min=1, help="The version to promote.")],
    reason: Reason,
    override: Annotated[
        bool, typer.Option("--override", help="Also without a passing verdict, on your word.")
    ] = False,
    expires_hours: Annotated[
        float, typer.Option("--expires-hours", min=0.01, help="How long the override holds.")
    ] = 24.0,
    expect: Expect = None,
    as_json: AsJson = False,
) -> None:
    """Make a version champion, if its gates passed or an override says so."""
    from homeostat.client import Gateway
    from homeostat.settings import load_settings

    with Gateway.of(load_settings()) as gateway:
        said = gateway.promote(
            model,
            version,
            reason,
            override=override,
            expires_hours=expires_hours,
            expected=expect,
        )
    _show_routing(said, as_json)


def rollback(
    model: ModelName, reason: Reason, expect: Expect = None, as_json: AsJson = False
) -> None:
    """Give the traffic back to the standby."""
    from homeostat.client import Gateway
    from homeostat.settings import load_settings

    with Gateway.of(load_settings()) as gateway:
        said = gateway.rollback(model, reason, expect)
    _show_routing(said, as_json)


def summary(routing: Mapping[str, Any]) -> str:
    """A routing in one line."""
    roles = [f"{role} {routing[role]}" for role in ROLES if routing.get(role)]
    share = routing.get("canary_share") or 0.0
    phase = routing.get("phase", "steady")
    canary = f" with {share:.0%} of the traffic" if phase == "canary" else ""
    return f"generation {routing.get('generation')}: {', '.join(roles)}; {phase}{canary}"


def _show_routing(said: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        show_json(said)
        return
    say(summary(said))
