"""`incidents quality`, `incidents judge`: what alerts are worth."""

from __future__ import annotations

from typing import Annotated

import typer

from homeostat.commands.output import AsJson, say, show_json, show_table

DAYS = 28.0


def quality(
    model: Annotated[str, typer.Option("--model", help="Only of this model; else of all.")] = "",
    days: Annotated[float, typer.Option("--days", min=0.01, help="How far back.")] = DAYS,
    as_json: AsJson = False,
) -> None:
    """Show how good alerts were: precision, time to detect and acknowledge, pages a week.

    By detector: an incident counts for each that had part in it, in `all` once. Precision is of
    those that somebody judged or acknowledged, or whose verdict is known; with its 95 % interval.
    It reads the lifecycle database, so it answers while the gateway is down.
    """
    from dataclasses import asdict
    from datetime import timedelta

    from homeostat.clock import utc_now
    from homeostat.commands.lineage import database
    from monitoring.quality import quality as measure
    from registry.alert_quality import alerts_told

    now = utc_now()
    with database(read_only=True) as (settings, session):
        if model:
            settings.policy(model)
        told = alerts_told(session, now - timedelta(days=days), now, model or None)
    found = measure(told, days)
    if as_json:
        show_json({"days": days, "detectors": [asdict(one) for one in found]})
        return
    show_table(
        (
            "detector",
            "incidents",
            "pages",
            "a week",
            "real",
            "false",
            "unknown",
            "precision",
            "95 %",
            "to detect",
            "to acknowledge",
        ),
        [
            (
                one.detector,
                one.incidents,
                one.pages,
                f"{one.pages_a_week:.2g}",
                one.real,
                one.false_alarms,
                one.unknown,
                "" if one.precision is None else f"{one.precision:.2f}",
                ""
                if one.precision_low is None or one.precision_high is None
                else f"{one.precision_low:.2f} to {one.precision_high:.2f}",
                spell(one.detect_seconds),
                spell(one.acknowledge_seconds),
            )
            for one in found
        ],
    )


def judge(
    incident: Annotated[str, typer.Argument(metavar="ID", help="An incident's id.")],
    real: Annotated[bool, typer.Option("--real/--false-alarm", help="Was it about something?")],
    as_json: AsJson = False,
) -> None:
    """Say what an incident was worth, open or over: `quality` counts it so."""
    from dataclasses import asdict

    from homeostat.client import caller
    from homeostat.clock import utc_now
    from homeostat.commands.lineage import database
    from registry.alert_quality import judge as keep

    with database() as (_settings, session):
        kept = keep(session, incident, "real" if real else "false alarm", caller(), utc_now())
    if as_json:
        show_json(asdict(kept))
    else:
        say(f"Incident {incident}: {kept.details['judged']}.")


def spell(seconds: float | None) -> str:
    """A time as people say it; empty where it is not known."""
    if seconds is None:
        return ""
    for size, unit in ((86_400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
