"""The request behind a retrain: asked for, held as a lock while it runs, ended with an outcome."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import uuid6

from flows.site import Site
from homeostat.clock import Clock, utc_now
from homeostat.errors import HomeostatError, Refused
from homeostat.policy import Policy
from registry.incidents import find_incident, note
from registry.retrains import (
    Learnt,
    Retrain,
    finish_retrain,
    request_retrain,
    retrain_running,
    start_retrain,
)

log = logging.getLogger(__name__)


@dataclass
class Request:
    """A retrain under way; `outcome` is what it will have come to, `learnt` what it brought."""

    id: str
    key: str
    outcome: str = "ended without an outcome"
    learnt: Learnt | None = None


@contextlib.contextmanager
def under_way(
    site: Site,
    policy: Policy,
    model: str,
    incident_id: str,
    key: str,
    flow_run_id: str,
    clock: Clock,
) -> Iterator[Request]:
    """Hold the model's retrain for the length of a block, and end it however the block ends.

    Args:
        site: Where.
        policy: Of the model: cool-down and daily budget.
        model: The registered model's name.
        incident_id: What asks for it; may be empty.
        key: Of a request that was made before; empty: it is made now.
        flow_run_id: Who holds it.
        clock: Tells when.

    Raises:
        Refused: one is running already, it is too soon, the day's budget is spent, or this
            request has ended.
        Unavailable: the database is away.
    """
    retrain = _begin(site, policy, model, incident_id, key, flow_run_id, clock)
    request = Request(retrain.id, retrain.key)
    try:
        yield request
    except BaseException as error:
        # Also when Prefect stops the run, which is no Exception.
        _end_quietly(site, retrain, f"failed: {_in_a_line(error)}", clock)
        raise
    _end(site, retrain, request.outcome, clock, request.learnt)


def end_by_flow_run(
    site: Site, model: str, flow_run_id: str, outcome: str, clock: Clock = utc_now
) -> bool:
    """End the retrain that a flow run holds, if it still does; for a run that cannot."""
    with site.session() as session:
        running = retrain_running(session, model)
    if running is None or running.flow_run_id != flow_run_id:
        return False
    _end(site, running, outcome, clock)
    return True


def _begin(
    site: Site,
    policy: Policy,
    model: str,
    incident_id: str,
    key: str,
    flow_run_id: str,
    clock: Clock,
) -> Retrain:
    key = key or f"{model}/by-hand/{flow_run_id or uuid6.uuid7()}"
    with site.session() as session:
        asked = request_retrain(session, model, incident_id, key, policy.retrain, clock())
        if asked is not None:
            return start_retrain(session, key, flow_run_id)
        running = retrain_running(session, model)
    because = (
        f"one is running since {running.at:%H:%M:%S} UTC"
        if running is not None
        else "this request has ended, the cool-down has not passed or the day's budget is spent"
    )
    raise Refused(
        f"'{model}' is not retrained now: {because}.",
        remedy="Wait, or change [models.NAME.retrain] in the settings.",
        model=model,
        key=key,
    )


def _end(
    site: Site, retrain: Retrain, outcome: str, clock: Clock, learnt: Learnt | None = None
) -> None:
    now = clock()
    with site.session() as session:
        finish_retrain(session, retrain.key, outcome, now, learnt)
        if retrain.incident_id and find_incident(session, retrain.incident_id) is not None:
            note(session, retrain.incident_id, f"Retrain ended: {outcome}", now)


def _end_quietly(site: Site, retrain: Retrain, outcome: str, clock: Clock) -> None:
    """End a retrain that failed; what it failed of is the error to show, not this one."""
    try:
        _end(site, retrain, outcome, clock)
    except HomeostatError as error:
        log.warning("The retrain %s could not be ended: %s", retrain.key, error)


def _in_a_line(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return " ".join(text.split())[:500]
