"""`settings`, `doctor`, `demo`: this installation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from homeostat.commands.output import AsJson, say, show_json, show_table

MASK = "**********"


def add_to(app: typer.Typer) -> None:
    """Register the commands of this file."""
    app.command()(settings)
    app.command()(doctor)
    app.command()(demo)


def settings(as_json: AsJson = False) -> None:
    """Show the effective settings, secrets masked."""
    from homeostat.settings import config_path, load_settings

    values = masked(load_settings().model_dump(mode="json"))
    if as_json:
        show_json(values)
        return
    path = config_path()
    say(f"# {path.resolve()}" if path.exists() else f"# no {path}: defaults and the environment")
    show_table(("setting", "value"), flat(values))


def doctor(as_json: AsJson = False) -> None:
    """Check this installation: Python, packages, disk, ports, database, servers.

    Exits with 5 where a check failed.
    """
    from homeostat.commands.exits import UNAVAILABLE
    from homeostat.doctor import examine
    from homeostat.settings import load_settings

    checks = examine(load_settings())
    if as_json:
        show_json([check.to_dict() for check in checks])
    else:
        for check in checks:
            say(f"{'ok    ' if check.passed else 'FAILED'}  {check.name:<10} {check.text}")
            if not check.passed:
                say(f"        {'':<10} {check.remedy}")
    if not all(check.passed for check in checks):
        raise typer.Exit(UNAVAILABLE)


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the servers running, to look around.")
    ] = False,
    state_dir: Annotated[
        Path, typer.Option("--state-dir", help="Emptied first; holds all that the demo makes.")
    ] = Path(".homeostat-demo"),
) -> None:
    """Show the whole loop on real servers and real handwritten digits."""
    from homeostat.demo.story import run

    run(state_dir, keep=keep)


def masked(values: dict[str, Any]) -> dict[str, Any]:
    """Settings without their secrets: the token, passwords in addresses, alert addresses."""
    shown = dict(values)
    if shown.get("token"):
        shown["token"] = MASK
    for name in ("mlflow_url", "prefect_url", "database_url"):
        shown[name] = mask_password(str(shown.get(name) or ""))
    shown["models"] = {
        model: {**policy, "alerts": [mask_route(one) for one in policy.get("alerts", [])]}
        for model, policy in shown.get("models", {}).items()
    }
    return shown


def mask_password(address: str) -> str:
    """An address with the password in it masked, and any query, which may hold one too."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    place, mark, _query = rest.partition("?")
    before, at, host = place.rpartition("@")
    if at:
        user, colon, _password = before.partition(":")
        before = f"{user}{colon}{MASK}" if colon else user
    return f"{scheme}://{before}{at}{host}{mark}{MASK if mark else ''}"


def mask_route(one: str | dict[str, Any]) -> str | dict[str, Any]:
    """One of the `alerts`, an address or a table that has one, without its secrets."""
    return mask_alert(one) if isinstance(one, str) else {**one, "to": mask_alert(str(one["to"]))}


def mask_alert(url: str) -> str:
    """Where an alert goes, without what lets one write there: chat addresses are secrets."""
    scheme, separator, rest = url.partition("://")
    host = rest.rpartition("@")[2].partition("/")[0].partition("?")[0]
    if not separator or scheme.removeprefix("alertmanager+") not in ("http", "https"):
        return f"{scheme}://{MASK}" if separator else MASK
    return f"{scheme}://{host}/{MASK}" if rest.rstrip("/") != host else url


def flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested tables as dotted names and their values."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict) and value:
            rows += flat(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", _shown(value)))
    return rows


def _shown(value: object) -> str:
    if value in ("", None, [], {}):
        return "-"
    return str(value)
