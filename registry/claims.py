"""What on-call is told once answers show a routing: that its incidents are over, or their harm.

Who writes a routing names the incidents that it answers in its evidence, and tells nobody: a swap
that did not happen must not be reported as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from homeostat.policy import Receiver
from registry.gateways import behind, known_gateways
from registry.incident_signals import subject_of
from registry.incidents import Incident, find_incident, inform, mitigate, open_incidents, resolve
from registry.routing import Routing

MITIGATES, RESOLVES, RECOVERS = "mitigates", "resolves", "recovers"
UNDO, NEXT = "undo", "next"


def answered(session: Session, model: str, version: int | None = None) -> list[str]:
    """The open incidents that a move of the traffic (away from a version) answers."""
    return [
        one.id
        for one in open_incidents(session, model)
        if not subject_of(one.details) and version in (None, one.version)
    ]


def claim(session: Session, routing: Routing, urls: Sequence[Receiver], at: datetime) -> None:
    """End what a routing answers, now that the answers show it; twice is once.

    Args:
        session: Open transaction.
        routing: Proven.
        urls: Where alerts go.
        at: When.
    """
    undo = str(routing.evidence.get(UNDO, ""))
    for incident in _named(session, routing, MITIGATES):
        mitigate(
            session,
            incident.id,
            _went_back(routing, incident) + _but_for(session, routing, at),
            at,
            urls,
            undo,
            happened=routing.reason if "signal" in routing.evidence else "",
            next_step=_after(routing, incident),
        )
    for incident in _named(session, routing, RECOVERS):
        _tell_of_recovery(session, routing, incident, urls, at)
    for incident in _named(session, routing, RESOLVES):
        text = f"Version {routing.champion} was promoted by {routing.actor}: {routing.reason}"
        resolve(session, incident.id, text, at, urls, undo)


def tell_unproven(
    session: Session, routing: Routing, text: str, urls: Sequence[Receiver], at: datetime
) -> None:
    """Let on-call hear that what was to end an incident did not happen."""
    for incident in _named(session, routing, MITIGATES):
        if incident.state in ("open", "acknowledged"):
            inform(session, incident.id, text, at, urls, next_step="somebody has to look.")


def _tell_of_recovery(
    session: Session, routing: Routing, incident: Incident, urls: Sequence[Receiver], at: datetime
) -> None:
    """A version that has learnt the change answers, and is not known to be well yet."""
    undo, step = str(routing.evidence.get(UNDO, "")), str(routing.evidence.get(NEXT, ""))
    text = f"Version {routing.champion}, which learnt what changed, answers: {routing.reason}"
    if incident.state in ("open", "acknowledged"):
        mitigate(session, incident.id, text, at, urls, undo, next_step=step)
    elif not any(event.text.startswith(text) for event in incident.events):
        inform(session, incident.id, text, at, urls, next_step=step)


def _named(session: Session, routing: Routing, how: str) -> list[Incident]:
    names = routing.evidence.get(how, [])
    found = (find_incident(session, str(name)) for name in names)
    return [incident for incident in found if incident is not None]


def _went_back(routing: Routing, incident: Incident) -> str:
    went = f"Traffic went back to version {routing.champion}"
    if "signal" in routing.evidence:
        return f"{went}, and version {incident.version} is in quarantine."
    return f"{went}: {routing.actor} asked for it ({routing.reason})."


def _but_for(session: Session, routing: Routing, at: datetime) -> str:
    """Gateways of which nothing was heard, so that nobody can say what they answer."""
    silent = [
        one for one in known_gateways(session) if one.state != "ended" and not one.is_live(at)
    ]
    return "".join(
        f" Gateway {one.name} fell silent at {one.seen_at:%H:%M:%S} UTC, obeying generation"
        f" {one.serving[routing.model]['generation']}: where it is only cut off from the database,"
        " it answers by that until it is back."
        for one in behind(silent, routing.model, routing.generation)
    )


def _after(routing: Routing, incident: Incident) -> str:
    follows = "the alias champion in MLflow follows by itself"
    if "signal" in routing.evidence:
        return f"{follows}; somebody has to find out what is wrong with version {incident.version}."
    return f"{follows}."
