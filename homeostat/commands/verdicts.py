"""`verdict`, `approve`: what the gates said of a version, and people's word for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeostat.commands.output import AsJson, ModelName, Reason, say, show_json, show_table, when

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from homeostat.settings import Settings

VersionNumber = Annotated[
    int, typer.Argument(metavar="VERSION", min=1, help="Its number in MLflow.")
]


def add_to(app: typer.Typer) -> None:
    """Register the commands of this file."""
    app.command()(verdict)
    app.command()(approve)


def verdict(model: ModelName, version: VersionNumber, as_json: AsJson = False) -> None:
    """Show what the gates said of a version, gate by gate, from the database alone.

    Exits with 0 where every gate passed, with 4 where one refused it, where none judged it, or
    where the verdict is on another artifact than the one registered.
    """
    from homeostat.commands.exits import OK, REFUSED
    from homeostat.settings import load_settings
    from registry.database import check_schema, connect, sessions, transaction

    settings = load_settings()
    settings.policy(model)
    engine = connect(settings.database)
    check_schema(engine)
    with transaction(sessions(engine, read_only=True)) as session:
        said = _look(session, settings, model, version)
    engine.dispose()
    if as_json:
        show_json(said)
    else:
        _show(said)
    raise typer.Exit(OK if said["passed"] else REFUSED)


def approve(
    model: ModelName,
    version: VersionNumber,
    reason: Reason,
    person: Annotated[
        str, typer.Option("--as", metavar="NAME", help="Who approves; you, where not given.")
    ] = "",
    seen: Annotated[
        str,
        typer.Option("--seen", metavar="HASH", help="Only the verdict whose hash begins so."),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Approve the verdict that stands on a version: one person's word, kept with that verdict."""
    from homeostat.client import Gateway
    from homeostat.settings import load_settings

    with Gateway.of(load_settings()) as gateway:
        said = gateway.approve(model, version, reason, person=person, seen=seen)
    if as_json:
        show_json(said)
        return
    _show_approvals(said["approvals"])
    count = f"{len(said['approvals'])} of {said['needed']} approvals"
    say(said["waits"] or f"{count}: version {version} of {model} may take traffic.")


def _look(session: Session, settings: Settings, model: str, version: int) -> dict[str, Any]:
    """All that is known of a version's verdict, as plain JSON."""
    from homeostat.clock import utc_now
    from registry.approvals import approvals_of
    from registry.promotion import decide
    from registry.verdicts import verdict_for

    found = verdict_for(session, model, version)
    digest = _registered_digest(session, settings, model, version)
    fits = None if found is None or not digest else found.digest == digest
    policy = settings.policy(model)
    decision = decide(session, policy, model, version, digest, utc_now())
    given = approvals_of(session, model, version, found) if found is not None else []
    return {
        "model": model,
        "version": version,
        "digest": digest,
        "passed": found is not None and found.passed and fits is not False,
        "fits": fits,
        "hash": found.hash if found is not None else "",
        "verdict": found.to_json() if found is not None else None,
        "needed": policy.gates.approvals,
        "approvals": [
            {"person": one.person, "reason": one.reason, "at": one.at.isoformat()} for one in given
        ],
        "may_take_traffic": decision.action == "accept",
        "reason": decision.reason,
    }


def _registered_digest(session: Session, settings: Settings, model: str, version: int) -> str:
    """What the version's artifact is: as MLflow says, else as it served, else as a copy says."""
    from homeostat.errors import ArtifactError, Unavailable, UnknownVersion
    from registry.cache import ArtifactCache
    from registry.release_history import find_release
    from registry.versions import MlflowVersions

    versions = MlflowVersions(settings.mlflow_address)
    try:
        return versions.digest(model, version)
    except (Unavailable, UnknownVersion, ArtifactError):
        release = find_release(session, model, version)
        if release is not None and release.digest:
            return release.digest
        return ArtifactCache(settings.state_dir / "versions").digest_of(model, version) or ""
    finally:
        versions.close()


def _show(said: Mapping[str, Any]) -> None:
    found = said["verdict"]
    name = f"{said['model']} version {said['version']}"
    if found is None:
        say(f"{name}: {said['reason']}")
        return
    show_table(
        ("gate", "figure", "bound", "passed", "reason"),
        [
            (
                gate["name"],
                gate["figure"],
                gate["bound"],
                "yes" if gate["passed"] else "NO",
                gate["reason"],
            )
            for gate in found["figures"]
        ],
    )
    say(f"{name}: {'passed' if said['passed'] else 'refused'}, judged {when(found['at'])} UTC")
    say(f"digest {found['digest']} {_fit(said)}")
    say(f"verdict {said['hash']}, error rate {found['error_rate']:g}")
    _show_approvals(said["approvals"])
    can = "may take traffic" if said["may_take_traffic"] else "may not take traffic"
    say(f"It {can}. {said['reason']}")


def _fit(said: Mapping[str, Any]) -> str:
    if said["fits"] is None:
        return "(not checked: nobody here knows what was registered)"
    return "(as registered)" if said["fits"] else f"(but {said['digest']} is registered)"


def _show_approvals(approvals: list[dict[str, Any]]) -> None:
    for each in approvals:
        say(f"approved by {each['person']} at {when(each['at'])} UTC: {each['reason']}")
