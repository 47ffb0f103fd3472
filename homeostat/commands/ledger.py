"""`history`, `served-at`, `ledger`: what served when, who moved it and why, and the proof of it.

These read the lifecycle database itself, so they answer while gateway and MLflow are down.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeostat.commands.lineage import database
from homeostat.commands.output import AsJson, ModelName, say, show_json, show_table, when
from homeostat.errors import InputError, LedgerBroken

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from homeostat.settings import Settings
    from registry.ledger import Line
    from registry.ledger_proof import LedgerReport
    from registry.served import Served

Moment = Annotated[
    str,
    typer.Argument(
        metavar="TIME",
        help="ISO 8601, such as 2026-11-25T14:03:00Z, '2026-11-25 14:03' or 2026-11-25; "
        "UTC where no zone is given; or now.",
    ),
]


def add_to(app: typer.Typer) -> None:
    """Register the commands of this file."""
    app.command()(history)
    app.command("served-at")(served_at)
    group = typer.Typer(help="The ledger: its proof and its copies.", no_args_is_help=True)
    group.command()(verify)
    group.command()(export)
    app.add_typer(group, name="ledger")


def history(
    model: ModelName,
    last: Annotated[
        int, typer.Option("--last", min=0, help="Only so many of the newest lines; 0: all.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Show the ledger of a model, newest last: every change, who made it, when and why."""
    from registry.ledger import head_of, lines_of

    with database(read_only=True) as (settings, session):
        end = head_of(session, model).line
        if not end:
            settings.policy(model)
        lines = lines_of(session, model, after=max(0, end - last) if last else 0)
    if as_json:
        show_json({"model": model, "lines": [_plain(asdict(line)) for line in lines]})
        return
    show_table(
        ("line", "at", "generation", "kind", "what", "actor", "reason"),
        [
            (
                each.line,
                when(each.at),
                each.generation,
                each.kind,
                change(each),
                each.actor,
                each.reason,
            )
            for each in lines
        ],
        empty=f"{model} has no routing yet: `homeostat train {model}` makes the first version.",
    )


def served_at(model: ModelName, time: Moment, as_json: AsJson = False) -> None:
    """Say which version answered at a moment, with which share, on whose word, and why."""
    from registry.served import served_at as find

    moment = moment_of(time, datetime.now(UTC))
    with database(read_only=True) as (settings, session):
        _known(settings, session, model)
        found = find(session, model, moment)
    if as_json:
        served = [_plain(asdict(one)) for one in found]
        show_json({"model": model, "at": moment.isoformat(), "served": served})
        return
    show_table(
        ("version", "role", "share", "digest", "generation", "since", "actor", "reason"),
        [
            (
                one.version,
                one.role,
                f"{one.share:.0%}",
                one.digest[:12],
                one.generation,
                when(one.since),
                one.actor,
                one.reason,
            )
            for one in found
            if one.in_force
        ],
    )
    for line in hand_overs(found):
        say(line)


def verify(
    model: Annotated[
        str, typer.Argument(metavar="[MODEL]", help="A model; all that have a ledger if none.")
    ] = "",
    file: Annotated[
        Path | None, typer.Option("--file", help="An exported ledger: nothing else is read.")
    ] = None,
    head: Annotated[
        str, typer.Option("--head", help="A hash noted down before: its line has to be there.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Check every byte of the ledger against the chain of hashes.

    Exits with 4 where a line is not what was written, and says which. Note the printed hash down
    elsewhere: given as --head later, it proves that nobody wrote the whole ledger anew.
    """
    reports = _verify_file(file, model, head) if file else _verify_database(model, head)
    if as_json:
        show_json([asdict(report) for report in reports])
    for report in reports:
        if not report.intact:
            raise broken(report)
        if not as_json:
            say(f"{report.model}: {report.lines:,} lines, whole; the last hash is {report.head}")
    if not reports and not as_json:
        say("There is no ledger yet.")


def export(
    model: ModelName,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that does not exist yet.")],
    as_json: AsJson = False,
) -> None:
    """Write a model's ledger as JSON lines; `ledger verify --file` checks them anywhere."""
    from registry.ledger_file import export_ledger

    with database(read_only=True) as (settings, session):
        _known(settings, session, model)
        end = export_ledger(session, model, file)
    if as_json:
        show_json({"file": str(file), "lines": end.line, "hash": end.hash})
    else:
        say(f"{file}: {end.line:,} lines; the last hash is {end.hash}")


def moment_of(text: str, now: datetime) -> datetime:
    """The moment that a person names, in UTC.

    Raises:
        InputError: it is none, or lies in the future.
    """
    try:
        moment = now if text.strip().lower() == "now" else datetime.fromisoformat(text.strip())
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InputError(
            f"'{text}' is not a time.",
            remedy="Give it as in 2026-11-25T14:03:00Z or '2026-11-25 14:03'; UTC without a zone.",
        ) from None
    if moment > now:
        raise InputError(
            f"{moment.isoformat()} lies in the future: nothing served then.",
            remedy="Give a moment that is over, or now.",
        )
    return moment


def change(line: Line) -> str:
    """What a line changed, in words."""
    from registry.happenings import roles_of
    from registry.ledger import ROUTING
    from registry.routing import routing_of_line

    if line.kind == ROUTING:
        return roles_of(routing_of_line(asdict(line) | {"evidence": "{}"}))
    subject = "" if line.version is None else f"version {line.version}: "
    if line.before and line.after:
        return f"{subject}{line.before} \N{RIGHTWARDS ARROW} {line.after}"
    if line.after or line.before:
        return f"{subject}{line.after or f'no longer {line.before}'}"
    return subject.removesuffix(": ")  # nothing changed: somebody was refused


def hand_overs(found: list[Served]) -> list[str]:
    """The routings that some gateway answered by though another was in force."""
    champions = [one for one in found if not one.in_force and one.role == "champion"]
    return [
        f"A gateway still answered by generation {one.generation} (version {one.version},"
        f" digest {one.digest[:12]}) around that moment: it had not taken up the next one."
        if one.generation < found[0].generation
        else f"A gateway whose clock is behind answered by generation {one.generation}"
        f" (version {one.version}) already."
        for one in champions
    ]


def broken(report: LedgerReport) -> LedgerBroken:
    """The error for a ledger that is not whole."""
    place = f"Line {report.broken} of the" if report.broken else "The"
    trusted = f"Only the lines before it ({report.lines:,}) can be trusted. "
    return LedgerBroken(
        f"{place} ledger of '{report.model}' is not what was written. {report.reason}",
        remedy=(trusted if report.broken else "")
        + "Keep a copy of it as it is, compare it with an export or a backup, and find out who"
        " wrote to it.",
        model=report.model,
        line=report.broken,
        good=report.lines,
    )


def _verify_file(file: Path, model: str, head: str) -> list[LedgerReport]:
    from registry.ledger_file import verify_file

    report = verify_file(file, head)
    if model and report.model != model:
        raise InputError(
            f"{file} is the ledger of '{report.model}', not of '{model}'.",
            remedy="Name the right file, or no model.",
        )
    return [report]


def _verify_database(model: str, head: str) -> list[LedgerReport]:
    from registry.ledger import models_of
    from registry.ledger_proof import verify_ledger

    if head and not model:
        raise InputError("A hash is one model's.", remedy="Name the model with --head.")
    with database(read_only=True) as (settings, session):
        if model:
            _known(settings, session, model)
        models = [model] if model else models_of(session)
        return [verify_ledger(session, each, head) for each in models]


def _known(settings: Settings, session: Session, model: str) -> None:
    """Refuse a model that neither the ledger nor the settings know."""
    from registry.ledger import head_of

    if not head_of(session, model).line:
        settings.policy(model)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in values.items()
    }
