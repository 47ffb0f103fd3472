"""What serves where, since when, on whose word, what is wrong, and what comes next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from homeostat.errors import Unavailable
from monitoring.estimates import Estimate
from registry.evidence import EvidenceSample
from registry.explanations import signal_notes
from registry.incidents import Incident, open_incidents
from registry.pauses import Pause, standing_pause
from registry.release_history import Release, open_releases
from registry.retrains import retrain_running
from registry.routing import Routing, current_routing
from registry.trials import TrialRecord, trial_of
from serving import views
from serving.gateway import Gateway
from serving.page.plan import SILENT, next_of_incident, next_of_model

GRAVITY = {"page": 0, "ticket": 1}
MOST_STEPS = 3  # incidents whose next step is told
URGENCY = {"open": 0, "acknowledged": 1, "mitigated": 2, "resolved": 3}


@dataclass(frozen=True)
class Part:
    """One version's part in a routing: its share of the answers; 0: it answers unseen."""

    version: int
    role: str
    share: float


@dataclass(frozen=True)
class ModelLine:
    """One model of the fleet.

    Args:
        name: Of the model.
        routing: In force; None before the first, or where the database is away.
        parts: Who has which role and share; the champion first.
        champion: Its release as champion; None where not known.
        trial: Of the challenger; None: there is none.
        incidents: Open ones, the gravest first.
        steps: What comes next.
        estimate: The champion's mean loss of the last hour, without labels.
        evidence: Of its detectors, now.
        agreement: Whether what answers is what was ordered; None: not known yet.
        pause: Of all its automation; None: it acts by its policy.
    """

    name: str
    routing: Routing | None
    parts: tuple[Part, ...]
    champion: Release | None
    trial: TrialRecord | None
    incidents: tuple[Incident, ...]
    steps: tuple[str, ...]
    estimate: Estimate
    evidence: tuple[EvidenceSample, ...]
    agreement: dict[str, Any] | None
    pause: Pause | None


@dataclass(frozen=True)
class FleetView:
    """All that the first page tells.

    Args:
        now: When it was gathered.
        models: Those with incidents first.
        incidents: Open ones of all these models, the gravest first.
        gateways: Those that are there, as the JSON route tells them.
        trouble: Why the database could not be read; empty where it could.
    """

    now: datetime
    models: tuple[ModelLine, ...]
    incidents: tuple[Incident, ...]
    gateways: tuple[dict[str, Any], ...] = ()
    trouble: str = field(default="")

    @property
    def counts(self) -> tuple[tuple[int, str, str], ...]:
        """Open incidents by severity and state, the most urgent first: how many, which, which."""
        found = Counter((one.severity, one.state) for one in self.incidents)
        return tuple((count, severity, state) for (severity, state), count in found.items())


def fleet_view(gateway: Gateway, names: Sequence[str]) -> FleetView:
    """Gather the fleet of some models; without a database, what this gateway knows by itself."""
    now = gateway.parts.clock()
    shown = views.gateways(gateway, names)["gateways"]
    there = tuple(one for one in shown if one["ended_at"] is None)
    try:
        with gateway.parts.reading() as session:
            lines = [model_line(gateway, session, name) for name in names]
    except Unavailable as error:
        lines = [_blind(gateway, name) for name in names]
        return FleetView(now, tuple(lines), (), there, error.message)
    lines.sort(key=lambda line: (_rank(line.incidents), line.name))
    found = gravest_first([one for line in lines for one in line.incidents])
    return FleetView(now, tuple(lines), found, there)


def model_line(gateway: Gateway, session: Session, name: str) -> ModelLine:
    """One model, from the database and from what this gateway watches."""
    routing = current_routing(session, name)
    by_role = open_releases(session, name)
    watch = gateway.watches[name]
    retrain = retrain_running(session, name)
    trial = trial_of(session, routing, gateway.parts.clock()) if routing else None
    incidents = gravest_first(open_incidents(session, name))
    told = [
        (one.title, next_of_incident(gateway, one, signal_notes(session, one.id), routing))
        for one in incidents[:MOST_STEPS]
    ]
    steps = [f"{title}. {step}" for title, step in told if step]
    steps += next_of_model(gateway, routing, name, retrain, trial)
    if len(steps) > 1:
        steps = [step for step in steps if step != SILENT]
    return ModelLine(
        name=name,
        routing=routing,
        parts=parts_of(routing),
        champion=by_role.get("champion"),
        trial=trial,
        incidents=incidents,
        steps=tuple(steps),
        estimate=watch.estimate(),
        evidence=tuple(watch.samples()),
        agreement=views.agreement(gateway, name),
        pause=standing_pause(session, name, gateway.parts.clock()),
    )


def parts_of(routing: Routing | None) -> tuple[Part, ...]:
    """Who answers which share by a routing."""
    if routing is None:
        return ()
    given = routing.canary_share if routing.phase == "canary" else 0.0
    roles = (
        (routing.champion, "champion", 1.0 - given),
        (routing.challenger, "challenger", given),
        (routing.standby, "standby", 0.0),
    )
    return tuple(Part(version, role, share) for version, role, share in roles if version)


def gravest_first(incidents: Sequence[Incident]) -> tuple[Incident, ...]:
    """Pages before tickets, open before what somebody has, the newest first."""
    return tuple(
        sorted(
            incidents,
            key=lambda one: (
                GRAVITY[one.severity],
                URGENCY[one.state],
                -one.opened_at.timestamp(),
            ),
        )
    )


def _rank(incidents: Sequence[Incident]) -> int:
    return min((GRAVITY[one.severity] for one in incidents), default=len(GRAVITY))


def _blind(gateway: Gateway, name: str) -> ModelLine:
    """What is known without a database: what this gateway answers with."""
    split = gateway.fleet.get(name)
    given = split.canary_share if split and split.phase == "canary" else 0.0
    parts = []
    if split is not None:
        parts.append(Part(split.champion.version, "champion", 1.0 - given))
        if split.challenger is not None:
            parts.append(Part(split.challenger.version, "challenger", given))
        if split.standby is not None:
            parts.append(Part(split.standby.version, "standby", 0.0))
    watch = gateway.watches[name]
    evidence = tuple(watch.samples())
    said = ("Not known while the database is away.",)
    return ModelLine(
        name,
        None,
        tuple(parts),
        None,
        None,
        (),
        said,
        watch.estimate(),
        evidence,
        None,
        gateway.parts.pause(name),
    )
