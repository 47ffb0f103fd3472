"""`up`, `down`, `status`: the servers of this machine."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeostat.commands.automation import said_of_pause
from homeostat.commands.output import AsJson, say, show_json, show_table, when
from homeostat.commands.rollout import said_of_trial

if TYPE_CHECKING:
    from homeostat.settings import Settings
    from homeostat.supervisor import Event
    from homeostat.supervisor.events import Tell


def add_to(app: typer.Typer) -> None:
    """Register the commands of this file."""
    app.command()(up)
    app.command()(down)
    app.command()(status)


def up(
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when everything is ready.")
    ] = False,
    replicas: Annotated[
        int | None,
        typer.Option("--replicas", min=1, max=64, help="Gateways; else as gateway_replicas says."),
    ] = None,
    events_to: Annotated[
        int | None, typer.Option("--events-to", hidden=True, help="A descriptor for events.")
    ] = None,
) -> None:
    """Start MLflow, Prefect, our flows and the gateway, and watch them.

    What has an address in the settings is used and not started. Ctrl-C stops everything.
    """
    from homeostat.errors import HomeostatError
    from homeostat.settings import load_settings
    from homeostat.supervisor import Event, Supervisor, start

    if events_to is None:
        settings = load_settings(**({"gateway_replicas": replicas} if replicas else {}))
        tell = _teller()
        if detach:
            start(settings, tell)
        else:
            Supervisor(settings, _with_table(tell, settings), os.environ).run()
        if detach:
            _show_addresses(settings)
        return
    # We are the background half of `--detach`: the other half reads our events.
    write = _pipe_writer(events_to)
    try:
        Supervisor(load_settings(), write, os.environ).run()
    except HomeostatError as error:
        lines = error.fields.get("log_lines")
        write(
            Event(
                "failed",
                text=error.message,
                remedy=error.remedy,
                code=error.code,
                log_lines=tuple(lines) if isinstance(lines, list) else (),
            )
        )
        raise


def down() -> None:
    """Stop what `up` started; its state stays for the next `up`."""
    from homeostat.settings import load_settings
    from homeostat.supervisor import stop

    settings = load_settings()
    stopped = stop(settings.state_dir)
    say("Stopped." if stopped else f"Nothing is up with the state folder {settings.state_dir}.")


def status(as_json: AsJson = False) -> None:
    """Show what runs, where, whether it answers, and which overrides are in force.

    Of each model also whether what serves is what was ordered: the version that the routing wants
    (intent), where MLflow's alias champion points (pointer), which versions answered last
    (measured).

    Where several gateways serve one database, also which of them are there, and the generation of
    each model that each obeys.

    Exits with 5 where a part does not answer.
    """
    from homeostat.commands.exits import UNAVAILABLE
    from homeostat.settings import load_settings
    from homeostat.supervisor import read_state

    settings = load_settings()
    state = read_state(settings.state_dir.resolve())
    supervised = bool(state and state.is_alive())
    if state and supervised:  # as they run, whatever is set by now
        gateways = sum(name.startswith("gateway") for name in state.addresses)
        settings = settings.model_copy(update={"gateway_replicas": max(1, gateways)})
    parts = _states(settings)
    models = _agreements(settings)
    known = _gateways(settings)
    well = all(part["answers"] for part in parts)
    overrides = _overrides(settings)
    if as_json:
        show_json(
            {
                "up": supervised,
                "pid": state.pid if state and supervised else None,
                "ready": well,
                "state_dir": str(settings.state_dir.resolve()),
                "parts": parts,
                "overrides": overrides,
                "models": models,
                "gateways": known,
            }
        )
    else:
        rows = [
            (part["part"], "answers" if part["answers"] else "away", part["address"])
            for part in parts
        ]
        show_table(("part", "state", "address"), rows)
        for each in overrides:
            say(
                f"OVERRIDE  {each['model']} version {each['version']} may take traffic whatever its"
                f" gates say, until {when(each['expires_at'])} UTC: {each['reason']}"
                f" ({each['actor']})"
            )
        if models:
            _show_agreements(models)
        if len(known) > 1:
            _show_gateways(known)
        if not supervised:
            say("No supervisor runs with this state folder: `homeostat up` starts one.")
    if not well:
        raise typer.Exit(UNAVAILABLE)


def _states(settings: Settings) -> list[dict[str, Any]]:
    from datetime import UTC, datetime, timedelta

    from homeostat.supervisor.parts import parts

    # A runner that serves asks twice a second; half a minute of silence is not a pause.
    lately = datetime.now(UTC) - timedelta(seconds=30)
    return [
        {"part": part.name, "answers": part.ready(lately), "address": part.address}
        for part in parts(settings, {})
        if not part.once
    ]


def _overrides(settings: Settings) -> list[dict[str, Any]]:
    """Every override in force, as the gateway tells it; none where it does not answer."""
    from homeostat.client import Gateway
    from homeostat.errors import HomeostatError

    try:
        with Gateway.of(settings) as gateway:
            return [each for name in settings.models for each in gateway.model(name)["overrides"]]
    except HomeostatError:
        return []


def _agreements(settings: Settings) -> list[dict[str, Any]]:
    """Intent, pointer and measured traffic of each model; empty where the gateway is away."""
    from homeostat.client import Gateway
    from homeostat.errors import HomeostatError

    try:
        with Gateway.of(settings) as gateway:
            found = gateway.models()
    except HomeostatError:
        return []
    return [
        {"model": each["model"], **(each["agreement"] or {})}
        | {name: each.get(name) for name in ("trial", "pause")}
        for each in found
    ]


def _gateways(settings: Settings) -> list[dict[str, Any]]:
    """The gateways that are there or fell silent, as the one that answers tells of them."""
    from homeostat.client import Gateway
    from homeostat.errors import HomeostatError

    try:
        with Gateway.of(settings) as gateway:
            return [one for one in gateway.gateways() if one["state"] != "ended"]
    except HomeostatError:
        return []


def _show_gateways(gateways: list[dict[str, Any]]) -> None:
    say("")
    show_table(
        ("gateway", "state", "seen", "obeys"),
        [
            (
                f"{one['host']}/{one['pid']}",
                one["state"],
                when(one["seen_at"]),
                " ".join(f"{name}@g{said['generation']}" for name, said in one["serving"].items()),
            )
            for one in gateways
        ],
    )


def _show_agreements(models: list[dict[str, Any]]) -> None:
    say("")
    show_table(
        ("model", "generation", "intent", "pointer", "measured", "state"),
        [
            (
                each["model"],
                each.get("generation"),
                each.get("intent"),
                each.get("pointer"),
                " ".join(str(version) for version in each.get("measured", ())),
                f"{each['differs']} differs" if each.get("differs") else each.get("state"),
            )
            for each in models
        ],
    )
    for each in models:
        if pause := each.get("pause"):
            say(said_of_pause(each["model"], pause))
        if trial := each.get("trial"):
            say(f"TRIAL  {each['model']} {said_of_trial(trial)}")


def _show_addresses(settings: Settings) -> None:
    show_table(
        ("part", "address"),
        [
            ("page", f"{settings.page_address}/"),
            ("gateway", settings.gateway_address),
            ("MLflow", settings.mlflow_address),
            ("Prefect", settings.prefect_address.removesuffix("/api")),
            ("state", str(settings.state_dir.resolve())),
            ("token", _where_token(settings)),
        ],
    )


def _where_token(settings: Settings) -> str:
    if settings.token.get_secret_value():
        return "as set by HOMEOSTAT_TOKEN or homeostat.toml"
    return f"in {settings.state_dir.resolve() / 'token'}"


def _with_table(tell: Tell, settings: Settings) -> Tell:
    def told(event: Event) -> None:
        tell(event)
        if event.kind == "up":
            _show_addresses(settings)
            say("Watching; Ctrl-C stops everything.")
            sys.stdout.flush()

    return told


def _teller() -> Tell:
    """Tell events as plain lines, with a spinner below them on a terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    spinner = console.status("starting")
    waiting: list[str] = []
    if console.is_terminal:
        spinner.start()

    def tell(event: Event) -> None:
        if event.kind == "starting":
            waiting.append(event.part)
        elif event.kind == "ready":
            if event.part in waiting:
                waiting.remove(event.part)
            console.print(f"[green]ready[/green]    {event.part:<9}{event.seconds:5.1f} s")
        elif event.kind == "ended":
            console.print(f"[red]ended[/red]    {event.part:<9}{event.text}")
        elif event.kind == "stopping":
            console.print("stopping")
        if waiting:
            spinner.update(f"waiting for {', '.join(waiting)}")
        if event.kind in ("up", "failed", "stopping"):
            spinner.stop()

    return tell


def _pipe_writer(descriptor: int) -> Tell:
    pipe: list[int] = [descriptor]
    os.set_inheritable(descriptor, False)

    def write(event: Event) -> None:
        say(f"{event.seconds:8.1f} s  {event.kind} {event.part} {event.text}".rstrip())
        sys.stdout.flush()
        if not pipe:
            return
        try:
            os.write(pipe[0], event.to_json().encode() + b"\n")
        except OSError:  # who asked for us is gone; we are up all the same
            pipe.clear()
            return
        if event.kind in ("up", "failed"):
            os.close(pipe.pop())

    return write
