"""`watch`: fleet, incidents and traffic in a terminal, for as long as one looks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeostat.commands.output import AsJson, show_json, when

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from homeostat.client import Gateway

ANSWERED = "homeostat_predictions_total"
Json = dict[str, Any]
Figures = Mapping[str, Sequence[tuple[Mapping[str, str], float]]]


def add_to(app: typer.Typer) -> None:
    """Register the commands of this file."""
    app.command()(watch)


@dataclass(frozen=True)
class Frame:
    """What the gateway said at one moment.

    Args:
        at: Seconds of `time.monotonic`.
        models: As `Gateway.models` answers.
        gateways: As `Gateway.gateways` answers.
        incidents: As `Gateway.incidents` answers.
        figures: The metrics, by name.
        trouble: Why it did not answer; the rest is then of the last time.
    """

    at: float
    models: Sequence[Json]
    gateways: Sequence[Json]
    incidents: Sequence[Json]
    figures: Figures
    trouble: str = ""


def watch(
    every: Annotated[
        float, typer.Option("--every", min=0.2, help="Seconds between two looks.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Show it once and end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show models, traffic and open incidents in the terminal until Ctrl-C.

    The page of the gateway shows more; this needs no browser. Traffic and evidence are those of
    the gateway that answers.
    """
    import contextlib
    import time

    from rich.console import Console
    from rich.live import Live

    from homeostat.client import Gateway
    from homeostat.settings import load_settings

    with Gateway.of(load_settings()) as gateway:
        frame = look(gateway)
        if as_json:
            show_json({"models": frame.models, "incidents": frame.incidents})
            return
        console = Console()
        if once:
            console.print(screen(frame, None))
            return
        live = Live(screen(frame, None), console=console, screen=True, auto_refresh=False)
        with contextlib.suppress(KeyboardInterrupt), live:
            while True:
                time.sleep(every)
                before, frame = frame, _again(gateway, frame)
                live.update(screen(frame, before), refresh=True)


def look(gateway: Gateway) -> Frame:
    """Ask the gateway.

    Raises:
        HomeostatError: as it answered; Unavailable where it does not.
    """
    import time

    return Frame(
        at=time.monotonic(),
        models=gateway.models(),
        gateways=[one for one in gateway.gateways() if one["state"] != "ended"],
        incidents=gateway.incidents(),
        figures=figures_of(gateway.metrics()),
    )


def _again(gateway: Gateway, last: Frame) -> Frame:
    """The next frame; where the gateway is away, the last one and why."""
    from dataclasses import replace

    from homeostat.errors import HomeostatError

    try:
        return look(gateway)
    except HomeostatError as error:
        return replace(last, trouble=str(error))


def figures_of(text: str) -> Figures:
    """Metrics in Prometheus' text form, by name: labels and value of each."""
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            found.setdefault(one.name, []).append((one.labels, one.value))
    return found


def screen(frame: Frame, before: Frame | None) -> Group:
    """One frame as a terminal shows it; rates are since the frame before."""
    from datetime import UTC, datetime

    from rich.console import Group
    from rich.text import Text

    head = Text(f"Homeostat  {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC", style="bold")
    if frame.trouble:
        head.append(f"\n{frame.trouble} What is shown is old.", style="bold red")
    parts: list[Text | Table] = [head, Text(), _models(frame, before), Text(), _incidents(frame)]
    if len(frame.gateways) > 1:
        parts += [Text(), _gateways(frame)]
    return Group(*parts)


def _models(frame: Frame, before: Frame | None) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("model", "serves", "on trial", "standby", "agrees", "rows/s", "accuracy"):
        table.add_column(name)
    table.add_column("nearest signal")
    for one in frame.models:
        routing = one["routing"] or {}
        table.add_row(
            one["model"],
            _number(routing.get("champion")),
            _challenger(routing),
            _number(routing.get("standby")),
            _agrees(one["agreement"]),
            _rate(one["model"], frame, before),
            _accuracy(one["model"], frame),
            _nearest(one["model"], frame),
        )
    return table


def _incidents(frame: Frame) -> Text:
    from rich.text import Text

    found = Text("Open incidents\n", style="bold")
    for one in frame.incidents:
        style = "bold red" if one["severity"] == "page" else "yellow"
        found.append(f"{one['severity']}  {one['title']}", style=style)
        found.append(f"  {one['state']}, since {when(one['opened_at'])} UTC\n", style="not bold")
        lines = [one["events"][-1]["text"] if one["events"] else ""]
        lines += [f"undo: {one['undo']}" if one["undo"] else "", f"runbook: {one['runbook']}"]
        for line in filter(None, lines):
            found.append(f"      {line}\n", style="not bold")
    if not frame.incidents:
        found.append("none", style="green not bold")
    return found


def _gateways(frame: Frame) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("gateway", "state", "seen (UTC)"):
        table.add_column(name)
    for one in frame.gateways:
        table.add_row(f"{one['host']}/{one['pid']}", one["state"], when(one["seen_at"]))
    return table


def _number(version: int | None) -> str:
    return "-" if version is None else str(version)


def _challenger(routing: Json) -> str:
    if routing.get("challenger") is None:
        return "-"
    share = f" {routing['canary_share']:.0%}" if routing.get("canary_share") else ""
    return f"{routing['challenger']} ({routing['phase']}{share})"


def _agrees(agreement: Json | None) -> str:
    if not agreement:
        return "-"
    return f"NO: {agreement['differs']}" if agreement["state"] == "differs" else "yes"


def _rate(model: str, frame: Frame, before: Frame | None) -> str:
    """Rows answered a second; `...` before there are two looks."""
    if before is None or frame.at <= before.at:
        return "..."
    now, then = (
        sum(value for labels, value in each.figures.get(ANSWERED, ()) if labels["model"] == model)
        for each in (frame, before)
    )
    return f"{max(0.0, now - then) / (frame.at - before.at):.1f}"


def _accuracy(model: str, frame: Frame) -> str:
    """The estimate without labels, and its interval."""
    figures = _by("homeostat_estimated_accuracy", "what", model, frame)
    low, middle, high = (figures.get(what, math.nan) for what in ("low", "estimate", "high"))
    return "-" if math.isnan(middle) else f"{middle:.3f} ({low:.2f}-{high:.2f})"


def _nearest(model: str, frame: Frame) -> str:
    """The detector whose evidence is nearest to its threshold."""
    thresholds = _by("homeostat_evidence_threshold", "detector", model, frame)
    evidence = _by("homeostat_evidence", "detector", model, frame)
    shares = {name: value / thresholds[name] for name, value in evidence.items()}
    if not shares:
        return "-"
    name = max(shares, key=lambda each: shares[each])
    return f"{name} {max(0.0, shares[name]):.0%}"


def _by(name: str, label: str, model: str, frame: Frame) -> dict[str, float]:
    """The values of a metric of one model by another label."""
    found = frame.figures.get(name, ())
    return {labels[label]: value for labels, value in found if labels["model"] == model}
