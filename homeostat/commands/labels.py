"""`labels`: what a model's labels can tell of its accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from homeostat.commands.output import AsJson, ModelName, say, show_json, show_table, when


def add_to(app: typer.Typer) -> None:
    """Register the command of this file."""
    app.command()(labels)


def labels(
    model: ModelName,
    as_of: Annotated[
        str,
        typer.Option(
            "--as-of", metavar="TIME", help="As it was believed then, beside what is known now."
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show how late a model's labels come, and accuracy with its coverage and bias."""
    from homeostat.client import Gateway
    from homeostat.clock import utc_now
    from homeostat.commands.ledger import moment_of
    from homeostat.settings import load_settings

    with Gateway.of(load_settings()) as gateway:
        said = gateway.labels(model, moment_of(as_of, utc_now()).isoformat() if as_of else "")
    if as_json:
        show_json(said)
        return
    if "estimate" in said:
        say(_estimated(said["estimate"]))
        for line in _strange(said["open_set"]):
            say(line)
    after = said["mature_after"]
    if after is None:
        say("No label came for what was predicted in those 7 days.")
        return
    if said["capped"]:
        since = when(said["since"])
        say(f"Of so many labels only predictions since {since} are looked at, not of 7 days.")
    say(f"95 % of the labels that come are there after {after:.0f} s.")
    say(f"Of all predictions {said['final']:.1%} get one, as far as is known.")
    names = {"mature": "older than that", "immature": "younger: immature"}
    show_table(
        ("predicted", "predictions", "labelled", "coverage", "accuracy"),
        [_line(names[name], said[name]) for name in names],
    )
    if said["known"] is not None:
        show_table(
            ("the same", "predictions", "labelled", "coverage", "accuracy"),
            [_line("as known now", said["known"])],
        )
    if said["revised"]:
        say(f"{said['revised']} labels were revised; evidence holds what was sent first.")
    low, high = said["gap"]
    if low > 0:
        say(
            f"Wrong answers are labelled sooner (loss {said['quick']:.3f} of quick labels, "
            f"{said['slow']:.3f} of slow ones of the same time): young accuracy is too low. "
            "Evidence waits for the slow ones."
        )
    elif high < 0:
        say(
            f"Right answers are labelled sooner (loss {said['quick']:.3f} of quick labels, "
            f"{said['slow']:.3f} of slow ones of the same time): young accuracy is too good."
        )


def _estimated(one: dict[str, Any]) -> str:
    """What the last hour's accuracy is likely to be, marked as an estimate."""
    if one["loss"] is None:
        return f"Accuracy of the last hour cannot be estimated without labels: {one['trouble']}"
    return (
        f"Accuracy of the last hour, estimated without labels: {1 - one['loss']:.3f} "
        f"({1 - one['high']:.3f} to {1 - one['low']:.3f}, {one['level']:.0%}; {one['rows']:,} "
        "predictions). It sees no change of the concept."
    )


def _strange(one: dict[str, Any]) -> Iterator[str]:
    """Rows of no known class: as estimated, marked so, and as the newest labels say."""
    if one["share"] is None:
        yield f"Rows of no known class cannot be estimated without labels: {one['trouble']}"
    elif one["low"] > 0.0:
        yield (
            f"Rows of no known class in the last hour, estimated without labels: {one['share']:.1%}"
            f" or more ({one['low']:.1%} to {one['high']:.1%}, {one['level']:.0%}), if the known "
            "ones are as sure as before."
        )
    else:
        yield (
            "Rows of no known class in the last hour: no sign of any without labels. Any that the "
            "model answers as surely as known ones would not show."
        )
    if (told := one["measured"]) is not None:
        yield (
            f"By their labels: {told['unseen']:,} of the newest {told['labels']:,} are of a class "
            f"that the champion does not know (95%: {told['low']:.1%} to {told['high']:.1%})."
        )


def _line(name: str, cohort: dict[str, Any]) -> tuple[object, ...]:
    accuracy = None if cohort["loss"] is None else 1 - cohort["loss"]
    return name, cohort["predictions"], cohort["labels"], f"{cohort['coverage']:.1%}", accuracy
