"""`alerts test`: whether who should be told can be told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeostat.commands.exits import UNAVAILABLE
from homeostat.commands.output import AsJson, say, show_json

if TYPE_CHECKING:
    from homeostat.settings import Settings
    from monitoring import Alert

TEXT = (
    "This is a test that somebody asked for by `homeostat alerts test`. Nothing is wrong. Nothing "
    "was done yet. Next: nothing; it ends by itself."
)


def add_to(app: typer.Typer) -> None:
    """Register the commands of this file."""
    group = typer.Typer(name="alerts", help="Who is told of incidents.", no_args_is_help=True)
    group.callback()(_group)  # else a group of one command is that command
    group.command(name="test")(try_out)
    app.add_typer(group)


def _group() -> None:
    """Who is told of incidents."""


def try_out(
    model: Annotated[
        str, typer.Option("--model", help="Only the addresses of this model; else of every one.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Send one alert, and its end, to every address of `alerts`, whatever its hours.

    It leaves from this machine by the settings here; the gateway need not run. Exits with 5 where
    an address did not take it.
    """
    from homeostat.errors import SettingsError
    from homeostat.policy import address_of
    from homeostat.settings import load_settings

    settings = load_settings()
    models = {model: settings.policy(model)} if model else dict(settings.models)
    pairs = [(name, address_of(one)) for name, policy in models.items() for one in policy.alerts]
    if not pairs:
        raise SettingsError(
            f"There is nobody to tell: {f'`alerts` of {model} is' if model else 'all `alerts` are'}"
            " empty.",
            remedy="Name an address there; docs/alerting.md says which kinds there are.",
        )
    answers = [_try(settings, name, url) for name, url in dict.fromkeys(pairs)]
    if as_json:
        show_json(answers)
    else:
        for one in answers:
            said = (
                f"took it in {one['seconds']:.2f} s" if one["taken"] else f"FAILED: {one['error']}"
            )
            say(f"{one['model']}  {one['address']}  {said}")
    if not all(one["taken"] for one in answers):
        raise typer.Exit(UNAVAILABLE)


def _try(settings: Settings, model: str, url: str) -> dict[str, Any]:
    """Open and end a test incident at one address."""
    import time

    from monitoring import DeliveryFailed, masked
    from monitoring.delivery import deliver
    from serving.courier import sending_of

    sending, began, error = sending_of(settings), time.monotonic(), ""
    try:
        for alert in rehearsal(model):
            deliver(url, alert, sending)
    except DeliveryFailed as failure:
        error = failure.message
    return {
        "model": model,
        "address": masked(url),
        "taken": not error,
        "seconds": round(time.monotonic() - began, 3),
        "error": error,
    }


def rehearsal(model: str) -> list[Alert]:
    """An incident that is none: its beginning and its end."""
    import uuid

    from homeostat.clock import utc_now
    from monitoring import Alert

    now = utc_now()
    key = f"{model}:test/{uuid.uuid4().hex[:12]}"
    details = {
        "kind": "test",
        "opened_at": now.isoformat(),
        "undo": "",
        "runbook": "README",
    }
    return [
        Alert(
            id=f"{key}/{status}",
            key=key,
            status=status,
            severity="ticket",
            title=f"{model}: a test of its alerts",
            text=TEXT,
            model=model,
            at=now,
            details=details | {"state": status},
        )
        for status in ("open", "resolved")
    ]
