"""`versions`, `promote`, `rollback`, `history`: which version answers, and since when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from homeostat.commands.output import AsJson, ModelName, Reason, say, show_json, show_table, when

ROLES = ("champion", "challenger", "standby")


def add_to(app: typer.Typer) -> None:
    """Register the commands of this file."""
    app.command()(versions)
    app.command()(promote)
    app.command()(rollback)
    app.command()(history)


def versions(model: ModelName, as_json: AsJson = False) -> None:
    """List a model's versions, what each does now, and what its gates said."""
    from homeostat.client import Gateway
    from homeostat.settings import load_settings

    with Gateway.of(load_settings()) as gateway:
        said = gateway.model(model)
    if as_json:
        show_json(said)
        return
    routing = said.get("routing") or {}
    show_table(
        ("version", "role", "gates", "digest", "made"),
        [
            (
                version.get("version"),
                version.get("role") or role_of(routing, version.get("version")),
                _gates(version),
                str(version.get("digest") or "")[:12],
                when(version.get("at") or version.get("created_at")),
            )
            for version in said.get("versions", [])
        ],
        empty=f"{model} has no version yet: `homeostat train {model}` makes one.",
    )
    if routing:
        say(summary(routing))


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
    as_json: AsJson = False,
) -> None:
    """Make a version champion, if its gates passed or an override says so."""
    from homeostat.client import Gateway
    from homeostat.settings import load_settings

    with Gateway.of(load_settings()) as gateway:
        said = gateway.promote(
            model, version, reason, override=override, expires_hours=expires_hours
        )
    _show_routing(said, as_json)


def rollback(model: ModelName, reason: Reason, as_json: AsJson = False) -> None:
    """Give the traffic back to the standby."""
    from homeostat.client import Gateway
    from homeostat.settings import load_settings

    with Gateway.of(load_settings()) as gateway:
        said = gateway.rollback(model, reason)
    _show_routing(said, as_json)


def history(model: ModelName, as_json: AsJson = False) -> None:
    """Show every routing of a model: which version answered, from when, by whom, why."""
    from homeostat.client import Gateway
    from homeostat.settings import load_settings

    with Gateway.of(load_settings()) as gateway:
        said = gateway.history(model)
    if as_json:
        show_json(said)
        return
    listed = said if isinstance(said, list) else said.get("routings") or said.get("items") or []
    show_table(
        ("at", "generation", *ROLES, "phase", "actor", "reason"),
        [
            (
                when(each.get("at")),
                each.get("generation"),
                *(each.get(role) for role in ROLES),
                each.get("phase"),
                each.get("actor"),
                each.get("reason"),
            )
            for each in listed
        ],
        empty=f"{model} has no routing yet: `homeostat train {model}` makes the first version.",
    )


def role_of(routing: Mapping[str, Any], version: object) -> str:
    """What a version does in a routing; empty where it does nothing."""
    return ", ".join(role for role in ROLES if routing.get(role) == version)


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
    routing = said.get("routing", said)
    say(summary(routing) if "generation" in routing else str(said))


def _gates(version: Mapping[str, Any]) -> str:
    verdict = version.get("verdict", version.get("passed"))
    if isinstance(verdict, Mapping):
        verdict = verdict.get("passed")
    if verdict is None:
        return ""
    return "passed" if verdict in (True, "passed") else "failed"
