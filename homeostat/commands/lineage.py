"""`lineage`, `reproduce`, `renumber`: where a version comes from, and what it goes by."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeostat.commands.exits import REFUSED
from homeostat.commands.output import AsJson, ModelName, Reason, Version, say, show_json, when

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from flows.reproduce import Reproduction
    from homeostat.settings import Settings
    from registry.lineage_record import Lineage
    from registry.lineage_records import Kept


def add_to(app: typer.Typer) -> None:
    """Register the commands of this file."""
    app.command()(lineage)
    app.command()(reproduce)
    app.command()(renumber)


def lineage(model: ModelName, version: Version, as_json: AsJson = False) -> None:
    """Show where a version comes from, back to the one that was trained anew."""
    from registry.lineage_records import ancestry

    with database(read_only=True) as (_, session):
        line = ancestry(session, model, version)
    if as_json:
        show_json([_plain(each) for each in line])
        return
    for at, each in enumerate(line):
        if at:
            say("")
        for name, value in facts(each):
            say(f"{name:<12} {value}")


def reproduce(model: ModelName, version: Version, as_json: AsJson = False) -> None:
    """Make a version again from its lineage and compare the bits; nothing is registered.

    Exits with 4 where other bits come out, and says what is not as it was.
    """
    import tempfile

    from flows.reproduce import reproduce as make_again
    from flows.site import open_site
    from homeostat.settings import load_settings

    with open_site(load_settings()) as site, tempfile.TemporaryDirectory() as folder:
        made = make_again(site, model, version, Path(folder))
    if as_json:
        show_json(made.to_json())
    else:
        for line in told(made):
            say(line)
    if not made.same:
        raise typer.Exit(REFUSED)


def renumber(
    model: ModelName,
    version: Version,
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="Such as 2.0.0.")],
    reason: Reason,
    as_json: AsJson = False,
) -> None:
    """Give a version another number than the one that it was given by itself.

    Its files, its digest and the number in its card stay as they are.
    """
    from homeostat.client import caller
    from homeostat.clock import utc_now
    from registry.ledger import record
    from registry.lineage_records import find_lineage, set_number
    from registry.numbers import Number
    from registry.version_info import NUMBER_TAG
    from registry.versions import MlflowVersions

    wanted = Number.parse(number)
    with database() as (settings, session):
        kept = find_lineage(session, model, version)
        before = set_number(session, model, version, wanted)
        record(
            session,
            model,
            "number",
            actor=caller(),
            reason=reason,
            at=utc_now(),
            before=str(before),
            after=str(wanted),
            version=version,
            digest=kept.digest,
        )
    # After the commit: whoever moves traffic waits for the end of the ledger, not for MLflow.
    # Where MLflow is away, the same command again sets the tag.
    with contextlib.closing(MlflowVersions(settings.mlflow_address)) as versions:
        versions.tag(model, version, {NUMBER_TAG: str(wanted)})
    if as_json:
        show_json({"model": model, "version": version, "number": number, "before": str(before)})
        return
    say(f"Version {version} of {model} is {wanted} now; it was {before}.")


@contextlib.contextmanager
def database(*, read_only: bool = False) -> Iterator[tuple[Settings, Session]]:
    """The settings, and one transaction of the lifecycle database.

    Args:
        read_only: Nothing is written, and nobody who writes is held up.

    Raises:
        Unavailable: the database is away or of another schema.
    """
    from homeostat.settings import load_settings
    from registry.database import check_schema, connect, sessions, transaction

    settings = load_settings()
    engine = connect(settings.database)
    try:
        check_schema(engine)
        with transaction(sessions(engine, read_only=read_only)) as session:
            yield settings, session
    finally:
        engine.dispose()


def facts(kept: Kept) -> list[tuple[str, str]]:
    """A lineage in lines for people."""
    record = kept.record
    data, code, made_on, cost = record.data, record.code, record.environment, record.cost
    return [
        ("version", f"{kept.number} (MLflow version {kept.version}), {record.weights:,} weights"),
        ("digest", record.digest),
        ("made", f"{when(record.made_at)} UTC by the flow {record.flow}. {record.made_by}"),
        ("parent", _parent(record)),
        (
            "data",
            f"{data.source}, {data.rows} rows ({data.trained_on} to learn,"
            f" {data.held_out} held out), regime {data.regime}, judged on regime"
            f" {', '.join(map(str, data.regimes))}, digest {data.digest}",
        ),
        *([("span", f"{when(data.begins)} to {when(data.ends)} UTC")] if data.begins else []),
        (
            "code",
            f"homeostat {code.package}, commit {code.revision or 'unknown'}"
            f"{' with changes' if code.modified else ''}, source {code.source}",
        ),
        (
            "environment",
            f"Python {made_on.python}, {made_on.platform}, {made_on.vector},"
            f" {made_on.threads} thread{'s' if made_on.threads != 1 else ''},"
            f" everything installed {made_on.digest}",
        ),
        ("libraries", ", ".join(f"{name} {v}" for name, v in made_on.packages.items())),
        ("parameters", _flat(record.parameters)),
        ("seed", str(record.seed)),
        ("memory", f"{record.memory.rows} rows, digest {record.memory.digest}"),
        (
            "cost",
            f"{cost.seconds:.1f} s ({cost.cpu_seconds:.1f} CPU s), {cost.rows} rows,"
            f" {cost.epochs} epochs, {cost.steps} steps, ended by {cost.stopped}",
        ),
    ]


def told(made: Reproduction) -> list[str]:
    """What came of making a version again, in lines for people."""
    lines = [f"Version {made.version} of {made.model}: digest {made.digest}, memory {made.memory}."]
    if made.same:
        lines.append("Made again: the same bits, of the artifact and of its memory.")
    elif not made.made:
        lines.append("It was not made again: its data is not what it was.")
    else:
        lines.append(f"Made again: digest {made.made}, memory {made.made_memory}.")
        lines.append(f"Other bytes: {', '.join(made.files) or 'none in the artifact'}.")
    lines += [f"{each.what}: {each.then} then, {each.now} now." for each in made.differences]
    if not made.same and not made.differences:
        lines.append(
            "Code, data, libraries and machine are as they were: the learner draws on"
            " something else than its seed."
        )
    return lines


def _parent(record: Lineage) -> str:
    if record.parent is not None:
        return f"{record.parent.edge} version {record.parent.version}, {record.parent.digest}"
    if record.champion is not None:
        return f"none; with the memory of version {record.champion.version}"
    return "none"


def _flat(values: dict[str, Any], prefix: str = "") -> str:
    return ", ".join(
        _flat(value, f"{prefix}{name}.")
        if isinstance(value, dict) and value
        else f"{prefix}{name} {value}"
        for name, value in values.items()
    )


def _plain(kept: Kept) -> dict[str, Any]:
    number = str(kept.number)
    return {"version": kept.version, "number": number, "lineage": kept.record.to_json()}
