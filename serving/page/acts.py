"""What a person does on the page to automation: pause it, let it act again, free what it barred."""

from __future__ import annotations

from collections.abc import Mapping
from shlex import quote

from homeostat.errors import InvalidRequest
from registry.incidents import Incident, note
from registry.permits import quarantined
from registry.release_history import known_digest
from serving.access import Caller
from serving.automation import free, not_barred, pause, resume
from serving.gateway import Gateway
from serving.handlers import NotFound
from serving.page.changes import Change
from serving.page.doors import text_of

REPORT = "report/report"  # the flow and its deployment
HOURS = ("1", "4", "8", "24", "72")  # that a pause may be asked for; else without end
TOLD = {
    "pause": (
        "No retrain is started, no trial moves on, nothing is promoted and nothing is rolled back"
        " on the word of labels. What serves now serves on.",
        "Incidents are opened and told as ever, each with the command that is due.",
        "A version that fails its callers is still taken out: they would get errors else.",
    ),
    "resume": ("It acts by its policy again: what is due is done within seconds.",),
}


def automation(gateway: Gateway, caller: Caller, model: str, action: str) -> Change:
    """What pausing automation, or letting it act again, would do.

    Raises:
        NotFound: there is no such act.
        UnknownModel, Forbidden: not for them.
    """
    _may(gateway, caller, model, action)
    hours = " --hours 8" if action == "pause" else ""
    return Change(
        now=gateway.parts.clock(),
        model=model,
        title=f"{action.capitalize()} all automation of {model}?",
        button=action.capitalize(),
        told=TOLD[action],
        routing=None,
        version=0,
        decision=None,
        overridable=False,
        may_override=False,
        command=f"homeostat automation {action} {quote(model)}{hours} --reason 'why'",
        lasts=action == "pause",
    )


def automate(
    gateway: Gateway, caller: Caller, model: str, action: str, fields: Mapping[str, str]
) -> None:
    """Pause it, or let it act again.

    Raises:
        HomeostatError: as the JSON route.
    """
    _may(gateway, caller, model, action)
    reason = text_of(fields, "reason")
    if action == "resume":
        resume(gateway.parts, model, caller.name, reason)
        return
    hours = fields.get("hours", "")
    if hours and hours not in HOURS:
        raise InvalidRequest(
            f"A pause of '{hours[:20]}' hours is none of those offered.",
            remedy="Open the page again, or use `homeostat automation pause`.",
        )
    pause(gateway.parts, model, caller.name, reason, float(hours) if hours else None)


def freeing(gateway: Gateway, caller: Caller, model: str, version: int) -> Change:
    """What letting a version out of quarantine would do.

    Raises:
        UnknownModel, Forbidden: not for them.
        Refused: it is in none.
        Unavailable: the database is away.
    """
    gateway.access.require(caller, "admin", model)
    with gateway.parts.reading() as session:
        digest = known_digest(session, model, version)
        found = quarantined(session, model, digest) if digest else None
    if found is None:
        raise not_barred(model, version)
    return Change(
        now=gateway.parts.clock(),
        model=model,
        title=f"Let version {version} of {model} out of quarantine?",
        button="Release",
        told=(
            f"It was barred at {found.at:%Y-%m-%d %H:%M} UTC: {found.reason}",
            "It gets no traffic by this. It may be tried, promoted or gone back to again, as its"
            " gates and its labels say.",
        ),
        routing=None,
        version=version,
        decision=None,
        overridable=False,
        may_override=False,
        command=f"homeostat quarantine release {quote(model)} {version} --reason 'why'",
    )


def let_go(
    gateway: Gateway, caller: Caller, model: str, version: int, fields: Mapping[str, str]
) -> None:
    """Let a version out of quarantine.

    Raises:
        HomeostatError: as the JSON route.
    """
    gateway.access.require(caller, "admin", model)
    free(gateway.parts, model, version, caller.name, text_of(fields, "reason"))


def ask_report(gateway: Gateway, caller: Caller, incident: Incident) -> None:
    """Have Evidently compare an incident's rows with those before, by the flow of that name.

    The incident tells who asked, and gets the report's address when it is written. Asked twice
    of one state of an incident it is written once.

    Raises:
        Forbidden: not for them.
        Unavailable: Prefect is away, or serves no reports; or the database is.
    """
    gateway.access.require(caller, "rollback", incident.model)
    asked = {"model": incident.model, "incident": incident.id, "presets": ["drift"]}
    key = f"report/{incident.id}/{len(incident.events)}"
    run = gateway.prefect.create_run(REPORT, asked, key)
    text = f"{caller.name} asked for Evidently's report of its rows; it runs in Prefect as {run}."
    with gateway.parts.writing() as session:
        note(session, incident.id, text, gateway.parts.clock())


def _may(gateway: Gateway, caller: Caller, model: str, action: str) -> None:
    if action not in TOLD:
        raise NotFound("There is no such act.", remedy=f"Acts are {', '.join(TOLD)}.")
    gateway.access.require(caller, "rollback", model)
