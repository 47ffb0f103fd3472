"""`rollout`: a trial, steered by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from homeostat.commands.output import AsJson, ModelName, Reason, say, show_json, when
from homeostat.commands.release import Expect, summary

app = typer.Typer(
    name="rollout",
    help="Begin a trial, pause it, let it go on, skip a step or end it.",
    no_args_is_help=True,
)


def add_to(parent: typer.Typer) -> None:
    """Register the commands of this file."""
    parent.add_typer(app)


@app.command()
def start(
    model: ModelName,
    version: Annotated[int, typer.Argument(min=1, metavar="VERSION", help="What is to be tried.")],
    reason: Reason,
    expect: Expect = None,
    as_json: AsJson = False,
) -> None:
    """Try a version against the champion, if its gates passed: first in shadow.

    One that is on trial gives way: the analysis begins anew.
    """
    _steer(model, "start", reason, expect, as_json, version)


@app.command()
def pause(model: ModelName, reason: Reason, expect: Expect = None, as_json: AsJson = False) -> None:
    """Hold a trial where it is; its time stands still. What does harm still ends it."""
    _steer(model, "pause", reason, expect, as_json)


@app.command()
def resume(
    model: ModelName, reason: Reason, expect: Expect = None, as_json: AsJson = False
) -> None:
    """Let a paused trial go on."""
    _steer(model, "resume", reason, expect, as_json)


@app.command()
def skip(model: ModelName, reason: Reason, expect: Expect = None, as_json: AsJson = False) -> None:
    """Take the next step on your word: from shadow into canary, from canary to all traffic."""
    _steer(model, "skip", reason, expect, as_json)


@app.command()
def abort(model: ModelName, reason: Reason, expect: Expect = None, as_json: AsJson = False) -> None:
    """End a trial; the champion answers all traffic."""
    _steer(model, "abort", reason, expect, as_json)


def said_of_trial(trial: Mapping[str, Any]) -> str:
    """A trial in one line."""
    rows = trial.get("rows", 0)
    low, high = trial.get("low"), trial.get("high")
    figures = f", loss difference {low:+.3f} to {high:+.3f}" if rows and low is not None else ""
    line = f"version {trial['version']} in {trial['phase']}: {rows:,} labelled rows{figures}"
    if cost := trial.get("regret"):
        line += f"; regret {cost['total']:.1f}, of an even split {cost['even']:.1f}"
    if trial.get("state") == "paused":
        since = when(trial["paused_at"])
        return f"{line}; PAUSED by {trial['paused_by']} since {since} UTC: {trial['paused_why']}"
    left = trial.get("seconds_left")
    return line if left is None else f"{line}; {left:,.0f} s left"


def _steer(
    model: str, action: str, reason: str, expect: int | None, as_json: bool, version: int = 0
) -> None:
    from homeostat.client import Gateway
    from homeostat.settings import load_settings

    with Gateway.of(load_settings()) as gateway:
        said = gateway.rollout(model, action, reason, version=version, expected=expect)
    if as_json:
        show_json(said)
        return
    say(summary(said))
    if trial := said.get("trial"):
        say(said_of_trial(trial))
