"""`forget`: a subject's rows removed wherever they are kept, and sought again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from homeostat.commands.exits import REMAINS
from homeostat.commands.output import AsJson, ModelName, Reason, say, show_json, show_table

if TYPE_CHECKING:
    from registry.erasing import Found, Places, Seen

NOT_SEARCHED = (
    "data files",
    "what versions learnt: weights, profiles and figures",
    "reports, pictures and explanations that were made",
    "the memory of gateway processes; spools and copies on other machines",
    "copies here of versions that MLflow has lost",
    "backups, older versions of objects in a store, and freed pages of PostgreSQL until VACUUM",
)


def add_to(app: typer.Typer) -> None:
    """Register the command of this file."""
    app.command()(forget)


def forget(
    model: ModelName,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where", metavar="FIELD=VALUE", help="A field of the rows; all that are given hold."
        ),
    ] = None,
    entity: Annotated[
        str, typer.Option("--entity", metavar="KEY", help="Or whom an answer was about.")
    ] = "",
    prediction: Annotated[
        list[str] | None, typer.Option("--id", metavar="ID", help="Or a prediction.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else it is only shown.")] = False,
    reason: Reason = "Asked to forget.",
    as_json: AsJson = False,
) -> None:
    """Remove a subject's rows from the log, the memories and the frozen rows, and search again.

    Without --yes it only says what it would find. With it, it exits with 7 where rows are left.
    """
    from homeostat.client import caller
    from homeostat.clock import utc_now
    from registry.erasing import erase, files_learnt, known_lineages, search, seen_by
    from registry.subjects import parse_subject

    subject = parse_subject(where or [], entity, prediction or [])
    with _places(model) as places:
        known = known_lineages(places, model)
        done = None
        if yes:
            done = erase(places, model, subject, actor=caller(), reason=reason, at=utc_now())
        found = done.before if done else search(places, model, subject)
    seen, files = seen_by(found, known), files_learnt(known)
    if as_json:
        show_json(
            {
                "model": model,
                "removed": yes,
                "found": found.to_json(),
                "left": done.after.to_json() if done else None,
                "proven": done.after.proven if done else False,
                "seen_by": [{"version": one.version, "through": one.through} for one in seen],
                "learnt_files": [{"version": version, "file": file} for version, file in files],
                "not_searched": list(NOT_SEARCHED),
                "salt": done.salt if done else "",
            }
        )
    else:
        _tell(found, done.after if done else None, seen, files)
        if done:
            say(f"The ledger has the subject as a hash with the salt {done.salt}: keep it.")
        else:
            say("Nothing was changed: with --yes it is removed.")
    if done and not done.after.proven:
        raise typer.Exit(REMAINS)


def _tell(
    found: Found, left: Found | None, seen: Sequence[Seen], files: Sequence[tuple[int, str]]
) -> None:
    now = _counts(left) if left else {}
    show_table(
        ("rows", "found", *(("left",) if left else ())),
        [(name, count, *((now[name],) if left else ())) for name, count in _counts(found).items()],
    )
    for one in (left or found).runs:
        if one.rows or one.golden or one.trouble:
            say(f"{one.run.name[:1].upper()}{one.run.name[1:]}: {_held(one.rows, one.golden)}")
            if one.trouble:
                say(f"  {one.trouble}")
    for version in seen:
        how = f"through version {version.through}" if version.through else "itself"
        say(f"Version {version.version} had seen some ({how}): its weights keep what they learnt.")
    if seen:
        say("Train anew without those rows (`homeostat train`), and give such versions no role.")
    for number, file in files:
        say(f"Version {number} learnt {file}, whose rows have no ids: take them out of that file.")
    if found.unnamed:
        say(
            f"{found.unnamed} rows of memories and frozen rows are of data files, and not searched."
        )
    say(f"Not searched either: {'; '.join(NOT_SEARCHED)}.")
    if left:
        say(
            "Searched again: nothing is left."
            if left.proven
            else "Searched again: not all is gone."
        )


def _counts(found: Found) -> dict[str, int]:
    return {
        **found.log,
        "answers not in the log yet": found.spooled,
        "replay memories": sum(one.memory for one in found.runs),
        "frozen held-out rows": sum(one.snapshots for one in found.runs),
        "copies of both on this disk": sum(one.copies for one in found.runs),
        "golden rows": sum(one.golden for one in found.runs),
    }


def _held(rows: int, golden: int) -> str:
    told = [f"{rows} rows of memory, frozen rows and their copies"] if rows else []
    if golden:
        told.append(
            f"{golden} golden rows, a part of the sealed model: delete the version in MLflow"
        )
    return f"{'; '.join(told) or 'not known'}."


@contextlib.contextmanager
def _places(model: str) -> Iterator[Places]:
    from functools import partial

    from homeostat.settings import load_settings
    from registry.cache import ArtifactCache
    from registry.database import check_schema, connect, sessions
    from registry.erasing import Places
    from registry.versions import MlflowVersions
    from serving.spooled import spooled_rows

    settings = load_settings()
    engine = connect(settings.database)
    with contextlib.closing(MlflowVersions(settings.mlflow_address, timeout=10.0)) as store:
        try:
            check_schema(engine)
            yield Places(
                sessions(engine),
                sessions(engine, read_only=True),
                store,
                ArtifactCache(settings.state_dir / "versions"),
                partial(spooled_rows, settings.state_dir / "spool", model),
            )
        finally:
            engine.dispose()
