"""`restore`: a version that MLflow lost comes back from its pinned copy, and nobody notices.

The same digest gets a new number there, and the routing moves from the old number to the new one
by compare-and-swap. What is loaded is the same, so nothing is loaded and nothing waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from homeostat.errors import NothingToRestore, UnknownVersion
from registry.cache import ArtifactCache
from registry.custody import Pin, work_of
from registry.faults import MODEL, VERSION, Held
from registry.incident_signals import renumber_incidents, subject_of
from registry.incidents import open_incidents, resolve
from registry.ledger import record
from registry.lineage_records import bind_lineage
from registry.restoring import find_loss, register_again, whole_pin
from registry.routing import Routing, current_routing, write_routing
from registry.tables import BlockRow, PredictionRow, ReleaseRow, VerdictRow
from registry.verdicts import record_verdict, verdict_for
from registry.versions import MlflowVersions
from serving.custody import Custodian
from serving.parts import Parts


@dataclass(frozen=True)
class Restored:
    """What came back: the same digest, under which numbers before and now, and what was lost."""

    digest: str
    before: int
    version: int
    lost: str


def restore(
    parts: Parts,
    custodian: Custodian,
    store: MlflowVersions,
    model: str,
    version: int | None,
    actor: str,
    reason: str,
) -> tuple[list[Restored], Routing | None]:
    """Register lost versions again and let the routing name them by their new numbers.

    Args:
        parts: The gateway's.
        custodian: Knows the pins.
        store: MLflow's registry.
        model: The model's name.
        version: Which one; None: every version with a role that MLflow lost.
        actor: Who asks.
        reason: Why.

    Raises:
        NothingToRestore: MLflow has them all, whole.
        NoCopy: there is no whole copy on this disk.
        StaleGeneration: somebody moved the routing in the meantime; asked again it goes on.
        Unavailable: MLflow or the database is away.
    """
    held = custodian.held(model)
    wanted = [one for one in held if version in (None, one.version)]
    lost = {
        one.version: loss
        for one in wanted or [_unheld(custodian, model, version)]
        if (loss := find_loss(store, model, one.version, one.digest))
    }
    if not lost:
        raise NothingToRestore(
            f"MLflow has {_named(version, held)} of '{model}', whole.",
            remedy="There is nothing to restore.",
            model=model,
        )
    pins = {number: whole_pin(custodian.cache, model, number) for number in lost}
    with parts.reading() as session:
        above = _highest(session, model)
        before = current_routing(session, model)
    restored = []
    for number, pin in sorted(pins.items()):
        new = register_again(store, custodian.cache, pin, above, lost[number])
        custodian.cache.remember(model, new, pin.digest)
        restored.append(Restored(pin.digest, number, new, lost[number]))
    routing = _move(parts, custodian.cache, model, before, restored, pins, actor, reason)
    if routing is not None:
        parts.obey(routing, {one.version: one.digest for one in restored})
        parts.wake.set()
    return restored, routing


def _move(
    parts: Parts,
    cache: ArtifactCache,
    model: str,
    before: Routing | None,
    restored: list[Restored],
    pins: dict[int, Pin],
    actor: str,
    reason: str,
) -> Routing | None:
    """Name the restored versions by their new numbers, in one transaction with the ledger's row."""
    now, alerts = parts.clock(), parts.policy(model).alerts
    new = {one.before: one.version for one in restored}
    works = {number: work_of(cache, pin) for number, pin in pins.items()}
    routing = None
    with parts.writing() as session:
        for one in restored:
            if work := works[one.before]:
                bind_lineage(session, model, work, one.version)
            verdict = verdict_for(session, model, one.before)
            if verdict is not None:
                record_verdict(session, model, one.version, verdict, now)
            record(
                session,
                model,
                "restore",
                actor=actor,
                reason=f"{one.lost} {reason}",
                at=now,
                before=str(one.before),
                after=str(one.version),
                evidence={"parts": pins[one.before].seals},
                version=one.version,
                digest=one.digest,
            )
        if before is not None and any(before.role_of(number) for number in new):
            named = ", ".join(f"{old} is {number} now" for old, number in sorted(new.items()))
            routing = write_routing(
                session,
                model,
                before.generation,
                champion=new.get(before.champion, before.champion),
                challenger=_renamed(new, before.challenger),
                standby=_renamed(new, before.standby),
                phase=before.phase,
                canary_share=before.canary_share,
                actor=actor,
                reason=f"Restored with the same digest: version {named}. {reason}",
                evidence={"restored": {str(old): number for old, number in new.items()}},
                at=now,
                digests={one.version: one.digest for one in restored},
            )
        renumber_incidents(session, model, new, now)
        for incident in open_incidents(session, model):
            subject = subject_of(incident.details)
            if subject == MODEL or (subject == VERSION and incident.version in new):
                number = new.get(incident.version)
                what = f"Version {incident.version} is version {number} now, with the same digest"
                text = f"{what}: {actor} restored it." if number else f"{actor} restored the model."
                resolve(session, incident.id, text, now, alerts)
    return routing


def _unheld(custodian: Custodian, model: str, version: int | None) -> Held:
    """A version without a role: its copy may be there still."""
    pin = custodian.pins.find(model, version or 0)
    if pin is None:
        known = ", ".join(str(one.version) for one in custodian.pins.of(model)) or "none"
        raise UnknownVersion(
            f"No version {version} of '{model}' has a role or a copy here; copies: {known}.",
            remedy="Name a version that has one.",
            model=model,
            version=version,
        )
    return Held(pin.version, pin.role, pin.digest, pin.run_id)


def _highest(session: Session, model: str) -> int:
    """The highest number that any version of a model is known by here."""
    highest = 0
    for table in (BlockRow, PredictionRow, ReleaseRow, VerdictRow):
        query = select(func.max(table.version)).where(table.model == model)
        highest = max(highest, session.scalar(query) or 0)
    return highest


def _renamed(new: dict[int, int], version: int | None) -> int | None:
    return None if version is None else new.get(version, version)


def _named(version: int | None, held: list[Held]) -> str:
    if version is not None:
        return f"version {version}"
    numbers = ", ".join(str(one.version) for one in held)
    return f"every version with a role ({numbers})" if numbers else "no version with a role"


def view_of(restored: list[Restored], routing: Routing | None) -> dict[str, Any]:
    """What was done, as it is answered."""
    return {
        "restored": [
            {"version": one.version, "was": one.before, "digest": one.digest, "lost": one.lost}
            for one in restored
        ],
        "generation": routing.generation if routing else None,
    }
