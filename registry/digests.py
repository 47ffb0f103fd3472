"""The digest: what became of a model in a week, in a few lines, put out once to who reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from homeostat.policy import AlertRoute, Receiver, address_of
from monitoring import Alert
from monitoring.alerts import VIA_ALERTMANAGER
from monitoring.quality import EVERY, Quality, quality
from registry.alert_quality import alerts_told
from registry.alert_routes import recipients
from registry.incident_records import Incident, open_incidents
from registry.outbox import enqueue
from registry.retrains import retrain_history
from registry.routing import routing_history

PAGERS = ("pagerduty://", VIA_ALERTMANAGER)  # these take incidents, and nothing else


@dataclass(frozen=True)
class Digest:
    """What became of a model in a stretch of time.

    Args:
        model: The model's name.
        since: From when on.
        until: Until when.
        quality: Of its alerts, by detector; of all together last.
        standing: Incidents that are open now.
        retrains: How those ended that began in that time.
        moves: Who wrote how many routings.
    """

    model: str
    since: datetime
    until: datetime
    quality: tuple[Quality, ...]
    standing: tuple[Incident, ...]
    retrains: dict[str, int]
    moves: dict[str, int]

    @property
    def text(self) -> str:
        """In a few lines for people."""
        every = self.quality[-1]
        lines = [
            f"Incidents: {every.incidents} opened, {every.pages} of them pages; "
            f"{len(self.standing)} open now.",
            *(f"  open: {one.title} ({one.severity}, {one.state})" for one in self.standing),
            f"Alerts: {_precision(every)}, {_acknowledged(every)}.",
            *(
                f"  {one.detector}: {one.incidents} told, {one.pages} pages, {_precision(one)}"
                for one in self.quality
                if one.detector != EVERY
            ),
            f"Retrains: {_counted(self.retrains)}.",
            f"Traffic moved by: {_counted(self.moves)}.",
        ]
        return "\n".join(lines)


def digest(session: Session, model: str, since: datetime, until: datetime) -> Digest:
    """Read what became of a model.

    Args:
        session: Open transaction.
        model: Its name.
        since: From then on.
        until: Until then, itself left out.
    """
    days = (until - since).total_seconds() / 86_400
    retrains = [one for one in retrain_history(session, model) if since <= one.at < until]
    moves = [one for one in routing_history(session, model) if since <= one.at < until]
    return Digest(
        model=model,
        since=since,
        until=until,
        quality=tuple(quality(alerts_told(session, since, until, model), days)),
        standing=tuple(open_incidents(session, model)),
        retrains=dict(Counter(one.outcome or "under way" for one in retrains)),
        moves=dict(Counter(one.actor for one in moves)),
    )


def put_digest(session: Session, found: Digest, receivers: Sequence[Receiver]) -> list[str]:
    """Put a digest into the outbox; one of the same day goes out once.

    Pagers do not get it, nor who hears of pages alone.

    Args:
        session: Open transaction.
        found: What to say.
        receivers: The policy's `alerts`.

    Returns:
        The addresses that get it.
    """
    key = f"{found.model}:digest/{found.until:%Y-%m-%d}"
    alert = Alert(
        id=key,
        key=key,
        status="digest",
        severity="ticket",
        title=f"{found.model}: {found.since:%Y-%m-%d} to {found.until:%Y-%m-%d}",
        text=found.text,
        model=found.model,
        at=found.until,
    )
    readers = [one for one in receivers if _reads(one)]
    times = recipients(readers, "ticket", found.until)
    enqueue(session, times, alert, found.until)
    return list(times)


def _reads(receiver: Receiver) -> bool:
    only_pages = isinstance(receiver, AlertRoute) and receiver.severity == "page"
    return not only_pages and not address_of(receiver).lower().startswith(PAGERS)


def _precision(one: Quality) -> str:
    judged = one.real + one.false_alarms
    if not judged:
        return "not yet judged"
    return f"{one.real} of {judged} judged were about something"


def _acknowledged(one: Quality) -> str:
    if one.acknowledge_seconds is None:
        return "none acknowledged"
    return f"{one.acknowledged} acknowledged, after {one.acknowledge_seconds / 60:.1f} min (median)"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"
