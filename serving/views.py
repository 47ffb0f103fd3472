"""What the gateway shows of itself as plain JSON: models, history, incidents, health."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from monitoring.estimates import checked
from monitoring.runbooks import runbook_address, runbook_of
from registry.gateways import behind
from registry.incidents import (
    Incident,
    acknowledge,
    find_incident,
    incident_history,
    open_incidents,
    unknown_incident,
)
from registry.label_report import label_report
from registry.log import count_predictions
from registry.losses import mean_loss
from registry.pauses import Pause, standing_pause
from registry.promotion import active_overrides
from registry.release_history import releases
from registry.retrains import Retrain, retrain_history
from registry.routing import Routing, routing_history
from registry.verdicts import verdict_for
from serving.fleet import Split
from serving.gateway import Gateway
from serving.open_set import strange_rows
from serving.recent import KEPT
from serving.trial_view import trial_view

NEWEST = 100  # incidents that are shown at once of those that are over too


def health(gateway: Gateway) -> tuple[bool, dict[str, Any]]:
    """Whether every model that has a routing has its champion loaded, and what serves."""
    splits = gateway.fleet.snapshot()
    missing = sorted(set(gateway.parts.wanted) - set(splits))
    ready = not missing and not gateway.leaving.begun
    document: dict[str, Any] = {
        "ready": ready,
        "models": {
            model: {"version": split.champion.version, "generation": split.generation}
            for model, split in splits.items()
        },
        "acts": gateway.controller.holds_lease,
        "troubles": gateway.controller.troubles,
    }
    if missing:
        document["missing"] = missing
    if not splits and not missing:
        document["note"] = "There is nothing to serve yet."
    if gateway.leaving.begun:
        document["note"] = "This gateway was asked to end."
    return ready, document


def models(gateway: Gateway, names: Sequence[str]) -> dict[str, Any]:
    """Models of the settings, with what serves them."""
    splits = gateway.fleet.snapshot()
    return {
        "models": [
            {
                "model": name,
                "routing": _split(split) if (split := splits.get(name)) else None,
                "agreement": agreement(gateway, name),
                "trial": trial_view(gateway, name),
                "pause": pause_view(gateway.parts.pause(name)),
            }
            for name in names
        ]
    }


def model(gateway: Gateway, name: str) -> dict[str, Any]:
    """One model: routing, every version that ever had a role, evidence, trial, incidents.

    Raises:
        UnknownModel: there is no such model.
    """
    split = gateway.fleet.get(name)
    watch = gateway.watches[name]
    with gateway.parts.reading() as session:
        now = gateway.parts.clock()
        roles = {one.version: role for role, one in (_roles(split) if split else [])}
        digests = {one.version: one.digest for one in releases(session, name)}
        digests |= {one.version: one.digest for _, one in (_roles(split) if split else [])}
        versions = [
            {
                "version": number,
                "role": roles.get(number),
                "digest": digest,
                "predictions": count_predictions(session, name, number),
                "verdict": verdict.to_json()
                if (verdict := verdict_for(session, name, number))
                else None,
            }
            for number, digest in sorted(digests.items())
        ]
        overrides = [_moments(asdict(one)) for one in active_overrides(session, name, now)]
        incidents = [_incident(gateway, one) for one in open_incidents(session, name)]
        retrains = [_retrain(one) for one in retrain_history(session, name)]
        pause = standing_pause(session, name, now)
        strange = strange_rows(gateway, session, name)
    return {
        "model": name,
        "routing": _split(split) if split else None,
        "agreement": agreement(gateway, name),
        "versions": versions,
        "estimate": watch.estimate().to_json(),
        "open_set": strange.to_json(),
        "evidence": [_moments(asdict(one)) for one in watch.samples()],
        "spacing": watch.spacing(),
        "labels_wait": gateway.feedback.following.told(name),
        "trial": trial_view(gateway, name),
        "overrides": overrides,
        "pause": pause_view(pause),
        "incidents": incidents,
        "retrains": retrains,
    }


def pause_view(found: Pause | None) -> dict[str, Any] | None:
    """A pause of all automation; None: it may act."""
    if found is None:
        return None
    return {
        "by": found.actor,
        "reason": found.reason,
        "since": found.at.isoformat(),
        "until": found.until.isoformat() if found.until else None,
    }


def agreement(gateway: Gateway, name: str) -> dict[str, Any] | None:
    """Whether the routing, MLflow's alias and what answers agree; None before the first routing."""
    found = gateway.prover.agreement(name)
    return asdict(found) if found else None


def gateways(gateway: Gateway, names: Sequence[str]) -> dict[str, Any]:
    """The gateways of this database, and where their answers differ from what is ordered.

    Args:
        gateway: Who is asked.
        names: Of the models that may be shown.
    """
    now, me = gateway.parts.clock(), gateway.parts.gateway_id
    live = [one for one in gateway.gathering.known if one.is_live(now)]
    wanted = {name: gateway.parts.wanted[name] for name in names if name in gateway.parts.wanted}
    return {
        "gateways": [
            {
                "id": one.id,
                "host": one.host,
                "pid": one.pid,
                "state": one.state,
                "started_at": one.started_at.isoformat(),
                "seen_at": one.seen_at.isoformat(),
                "ended_at": one.ended_at.isoformat() if one.ended_at else None,
                "answers_this": one.id == me,
                "serving": {name: said for name, said in one.serving.items() if name in names},
            }
            for one in gateway.gathering.known
        ],
        "models": [
            {
                "model": name,
                "generation": generation,
                "behind": [one.name for one in behind(live, name, generation)],
            }
            for name, generation in wanted.items()
        ],
    }


def pins(gateway: Gateway, name: str, *, verify: bool) -> dict[str, Any]:
    """What is pinned on this gateway's disk of the versions with a role.

    Raises:
        UnknownModel: there is no such model.
        Unavailable: the database is away.
    """
    gateway.fleet.get(name)
    custodian = gateway.custodian
    shown = custodian.verify(name) if verify else custodian.shown(name)
    return {"model": name, "pins": shown}


def history(gateway: Gateway, name: str, limit: int, before: int | None) -> dict[str, Any]:
    """A page of a model's routings with the releases that they began, oldest first.

    Args:
        gateway: Whose.
        name: Of the model.
        limit: At most so many routings, the newest.
        before: Only routings with a generation below this; in the answer, what to ask for next,
            null where there are no older ones.

    Raises:
        UnknownModel: there is no such model.
        Unavailable: the database is away.
    """
    gateway.fleet.get(name)
    with gateway.parts.reading() as session:
        page = routing_history(session, name, limit=limit, before=before)
        ends = (page[0].generation, page[-1].generation) if page else (0, 0)
        begun = releases(session, name, ends)
    return {
        "model": name,
        "routings": [routing(one) for one in page],
        "releases": [_moments(asdict(one)) for one in begun],
        "before": ends[0] if ends[0] > 1 else None,
    }


def labels(gateway: Gateway, name: str, as_of: datetime | None = None) -> dict[str, Any]:
    """What a model's labels of the last days can tell, or could at an earlier time.

    Raises:
        InputError: that time lies in the future.
        UnknownModel: there is no such model.
        Unavailable: the database is away.
    """
    split, watch, now = gateway.fleet.get(name), gateway.watches[name], gateway.parts.clock()
    estimate = watch.estimate()
    with gateway.parts.reading() as session:
        found = label_report(session, name, now, as_of)
        if as_of is None and split is not None and found.mature_after is not None:
            start, ripe = now - KEPT, now - timedelta(seconds=found.mature_after)
            known = mean_loss(session, name, split.champion.version, start, ripe)
            estimate = checked(estimate, watch.estimate(start, ripe), *known)
        strange = strange_rows(gateway, session, name)
    cohorts = {"mature": found.mature, "immature": found.immature}
    covered = {key: asdict(one) | {"coverage": one.coverage} for key, one in cohorts.items()}
    shown = _moments(asdict(found) | covered)
    # What was estimated at an earlier time is not kept.
    said = {"estimate": estimate.to_json(), "open_set": strange.to_json()}
    return {"model": name} | ({} if as_of else said) | shown


def incidents(gateway: Gateway, names: Sequence[str] | None, *, every: bool) -> dict[str, Any]:
    """Open incidents, or with `every` the newest hundred, resolved ones too.

    Args:
        gateway: Whose.
        names: Of which models; None: of all.
        every: Whether those that are over as well.
    """
    look = incident_history if every else open_incidents
    with gateway.parts.reading() as session:
        found = [one for name in (names or ()) for one in look(session, name)]
        if names is None:
            found = look(session, None)
    found.sort(key=lambda one: one.opened_at, reverse=every)
    shown = found[:NEWEST] if every else found
    return {"incidents": [_incident(gateway, one) for one in shown]}


def acknowledged(
    gateway: Gateway, incident_id: str, actor: str, sees: Callable[[str], bool]
) -> dict[str, Any]:
    """Somebody takes an incident on; one of a model that they do not see is as one unknown.

    Raises:
        InputError: there is no such incident for them.
        Unavailable: the database is away.
    """
    with gateway.parts.writing() as session:
        found = find_incident(session, incident_id)
        if found is None or not sees(found.model):
            raise unknown_incident(incident_id)
        alerts = gateway.parts.policy(found.model).alerts
        now = gateway.parts.clock()
        return _incident(gateway, acknowledge(session, incident_id, actor, now, alerts))


def routing(one: Routing) -> dict[str, Any]:
    """One line of the ledger."""
    return _moments(asdict(one))


def _split(split: Split) -> dict[str, Any]:
    return {
        "generation": split.generation,
        "phase": split.phase,
        "champion": split.champion.version,
        "challenger": split.challenger.version if split.challenger else None,
        "standby": split.standby.version if split.standby else None,
        "canary_share": split.canary_share,
        "release": split.release(split.champion.version),
        "digest": split.champion.digest,
    }


def _roles(split: Split) -> list[tuple[str, Any]]:
    roles = (
        ("champion", split.champion),
        ("challenger", split.challenger),
        ("standby", split.standby),
    )
    return [(role, one) for role, one in roles if one is not None]


def _incident(gateway: Gateway, one: Incident) -> dict[str, Any]:
    base = gateway.parts.settings.alerting.runbooks_url
    return _moments(asdict(one)) | {
        "events": [_moments(asdict(event)) for event in one.events],
        "runbook": runbook_address(runbook_of(one.kind, one.details), base),
    }


def _retrain(one: Retrain) -> dict[str, Any]:
    learnt = one.learnt.to_json() if one.learnt is not None else None
    return _moments(asdict(one)) | {"learnt": learnt}


def _moments(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if hasattr(value, "isoformat") else value
        for name, value in values.items()
    }
