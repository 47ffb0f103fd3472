"""A trial as the routes show it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from homeostat.errors import Unavailable
from registry.regret import regret_of
from registry.routing import current_routing
from registry.trials import PAUSED, RUNNING, TrialRecord, trial_of
from serving.gateway import Gateway


def trial_view(gateway: Gateway, name: str) -> dict[str, Any] | None:
    """The figures of a model's trial, its time, and whether it stands still; None: no trial.

    While the database is away only the figures are known.
    """
    split, trial = gateway.fleet.get(name), gateway.watches[name].trial
    if split is None or split.challenger is None:
        return None
    figures = asdict(trial) if trial is not None else {}
    shown = {"version": split.challenger.version, "phase": split.phase, **figures}
    shown["canary_rows"] = gateway.watches[name].challenger_answers
    try:
        with gateway.parts.reading() as session:
            routing, now = current_routing(session, name), gateway.parts.clock()
            course = trial_of(session, routing, now) if routing is not None else None
            if course is not None and routing is not None and routing.phase == "canary":
                cost = regret_of(session, name, routing.champion, course.version, course.begun_at)
                shown["regret"] = {"rows": cost.rows, "total": cost.total, "even": cost.even}
    except Unavailable:
        return shown
    return shown | _course(gateway, name, course)


def _course(gateway: Gateway, name: str, course: TrialRecord | None) -> dict[str, Any]:
    if course is None:
        return {}
    took = course.took.total_seconds()
    return {
        "state": PAUSED if course.paused_at is not None else RUNNING,
        "begun_at": course.begun_at.isoformat(),
        "paused_at": course.paused_at.isoformat() if course.paused_at else None,
        "paused_by": course.by,
        "paused_why": course.reason,
        "seconds": took,
        "seconds_left": max(gateway.parts.policy(name).rollout.deadline_seconds - took, 0.0),
    }
