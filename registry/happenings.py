"""What happened to a model, in words: marks for the picture, notes for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monitoring import IncidentNote, LedgerLine, Mark, ReleaseNote
from registry.incident_records import Incident
from registry.release_history import Release
from registry.retrains import Retrain
from registry.routing import Routing
from registry.tables import SignalRow

# The words of each kind of signal, the gravest first: an incident is called by that.
WORDS = {
    "hard-failure": "v{version} failed",
    "worse-than-standby": "v{version} worse than standby",
    "loss": "accuracy fell",
    "input-drift": "inputs changed",
    "registry": "v{version} flagged",
    "silence": "gone silent",
}
TITLES = {
    "hard-failure": "it failed",
    "worse-than-standby": "it was worse than its standby",
    "loss": "accuracy fell",
    "input-drift": "the inputs changed",
    "registry": "its registry needed a look",
    "silence": "something did not come",
}
# How the reasons of registry incidents begin, and what that comes to in a few words.
FLAGS = {"It serves without a passing verdict": "v{version} serves unjudged"}


def first_signals(session: Session, model: str) -> list[Mapping[Any, Any]]:
    """The first signal of each kind of each incident, in order of time."""
    firsts = (
        select(func.min(SignalRow.id))
        .where(SignalRow.model == model)
        .group_by(SignalRow.incident_id, SignalRow.kind)
    )
    columns = SignalRow.__table__.columns
    query = select(*columns).where(SignalRow.id.in_(firsts)).order_by(SignalRow.at, SignalRow.id)
    return list(session.execute(query).mappings())


def marks_of(
    history: Sequence[Routing],
    incidents: Sequence[Incident],
    signals: Sequence[Mapping[Any, Any]],
    retrains: Sequence[Retrain],
) -> list[Mark]:
    """Every routing, signal, resolution and retrain as a mark, in order of time."""
    marks = [
        Mark(
            routing.at,
            _kind(routing, before),
            _move(routing, before),
            f"{_sentence(roles_of(routing))} {_sentence(routing.reason)} By {routing.actor}.",
        )
        for before, routing in zip([None, *history], history, strict=False)
    ]
    titles = {incident.id: incident.title for incident in incidents}
    marks += [
        Mark(signal["at"], "incident", _words(signal), _told(signal, titles))
        for signal in signals
        if signal["incident_id"] in titles
    ]
    marks += [
        Mark(incident.resolved_at, "resolved", "resolved", f"Resolved: {incident.title}.")
        for incident in incidents
        if incident.resolved_at is not None
    ]
    for retrain in retrains:
        marks.append(Mark(retrain.at, "retrain", "retrain asked", "A retrain was asked for."))
        if retrain.ended_at is not None:
            detail = _sentence(f"The retrain ended: {retrain.outcome}")
            marks.append(Mark(retrain.ended_at, "retrain", _outcome(retrain.outcome), detail))
    return sorted(marks, key=lambda mark: (mark.at, mark.kind != "incident"))


def incident_notes(
    incidents: Sequence[Incident], signals: Sequence[Mapping[Any, Any]]
) -> list[IncidentNote]:
    """Incidents, oldest first, each called by the gravest of its signals."""
    return [
        IncidentNote(
            opened_at=incident.opened_at,
            resolved_at=incident.resolved_at,
            severity=incident.severity,
            state=incident.state,
            title=f"Version {incident.version}: {_titled(incident, signals)}",
            story=tuple((event.at, event.text) for event in incident.events),
            undo=incident.undo,
        )
        for incident in sorted(incidents, key=lambda one: one.opened_at)
    ]


def release_notes(
    releases: Sequence[Release], start: datetime, end: datetime
) -> dict[int, list[ReleaseNote]]:
    """For each version its releases that overlap [start, end)."""
    notes: dict[int, list[ReleaseNote]] = {}
    for one in releases:
        if one.from_at < end and (one.to_at is None or one.to_at >= start):
            note = ReleaseNote(one.role, one.from_at, one.to_at, one.why, one.ended_why)
            notes.setdefault(one.version, []).append(note)
    return notes


def ledger_lines(history: Sequence[Routing]) -> list[LedgerLine]:
    """Routings as lines to read."""
    return [
        LedgerLine(one.generation, one.at, roles_of(one), one.actor, one.reason) for one in history
    ]


def is_rollback(routing: Routing, before: Routing | None) -> bool:
    """Whether the traffic went back to the version that it came from."""
    return _kind(routing, before) == "rollback"


def roles_of(routing: Routing) -> str:
    """Who has which role, in words."""
    roles = [f"version {routing.champion} champion"]
    if routing.challenger is not None:
        share = f" with {_percent(routing.canary_share)}" if routing.phase == "canary" else ""
        phase = "challenger" if routing.phase == "steady" else f"in {routing.phase}{share}"
        roles.append(f"version {routing.challenger} {phase}")
    if routing.standby is not None:
        roles.append(f"version {routing.standby} standby")
    return ", ".join(roles)


def _kind(routing: Routing, before: Routing | None) -> str:
    if before is None or routing.champion not in (before.champion, before.standby):
        return "version"
    return "rollout" if routing.champion == before.champion else "rollback"


def _move(routing: Routing, before: Routing | None) -> str:
    """What a routing changed, in a few words."""
    if before is None or routing.champion != before.champion:
        back = _kind(routing, before) == "rollback"
        return f"traffic back to v{routing.champion}" if back else f"v{routing.champion} champion"
    trial = routing.challenger
    if trial is None:
        gone = before.challenger
        return "standby changed" if gone is None else f"trial of v{gone} ended"
    if routing.phase == "canary":
        return f"v{trial} canary {_percent(routing.canary_share)}"
    return f"v{trial} on trial in shadow" if routing.phase == "shadow" else f"v{trial} challenger"


def _outcome(outcome: str) -> str:
    """How a retrain ended: `challenger: version 2. Every gate passed.` is "retrain done: v2"."""
    place, _, rest = outcome.partition(":")
    number = rest.strip().removeprefix("version ").partition(".")[0]
    made = f"v{number}" if number.isdigit() else ""
    if made and place in ("challenger", "champion", "candidate"):
        return f"retrain done: {made}"
    if place == "rejected":
        return f"retrain refused: {made}" if made else "retrain refused"
    return "retrain ended"


def _words(signal: Mapping[Any, Any]) -> str:
    reason = str(signal["details"].get("reason", ""))
    flag = next((words for begin, words in FLAGS.items() if reason.startswith(begin)), None)
    words = flag or WORDS.get(signal["kind"], f"v{{version}}: {signal['kind']}")
    return words.replace("{version}", str(signal["version"]))


def _told(signal: Mapping[Any, Any], titles: Mapping[str, str]) -> str:
    reason = str(signal["details"].get("reason", ""))
    figures = (
        f"{signal['detector']}: evidence {signal['evidence']:.1f}, threshold"
        f" {signal['threshold']:.1f}, {signal['rows']} rows."
    )
    title = TITLES.get(signal["kind"])
    said = f"Version {signal['version']}: {title}" if title else titles[signal["incident_id"]]
    return f"{_sentence(said)} {_sentence(reason) if reason else figures}"


def _titled(incident: Incident, signals: Sequence[Mapping[Any, Any]]) -> str:
    kinds = {signal["kind"] for signal in signals if signal["incident_id"] == incident.id}
    found = [title for kind, title in TITLES.items() if kind in kinds | {incident.kind}]
    grave = [title for title in found if title != TITLES["registry"]]
    return ", and ".join((grave or found)[:2]) if found else incident.title


def _percent(share: float) -> str:
    return f"{share * 100:.0f}\N{NO-BREAK SPACE}%"


def _sentence(text: str) -> str:
    text = text.strip()
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
