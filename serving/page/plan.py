"""What automation does next, in sentences: of a model, and of one incident of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import get_args

from homeostat.policy import Policy
from monitoring.signals import Kind, Signal, triage
from registry.explanations import SignalNote
from registry.incident_alerts import INCIDENT
from registry.incident_records import ASIDE, Incident
from registry.retrains import Retrain
from registry.routing import Routing
from registry.trials import TrialRecord
from serving.advice import next_step, rollback_command
from serving.detectors import Trial
from serving.gateway import Gateway

SILENT = "Nothing by itself until something is seen."


def next_of_model(
    gateway: Gateway,
    routing: Routing | None,
    model: str,
    retrain: Retrain | None,
    course: TrialRecord | None,
) -> list[str]:
    """What comes next for a model, apart from its incidents.

    Args:
        gateway: Whose trial it is.
        routing: In force; None before the first.
        model: The model's name.
        retrain: The one that has not ended.
        course: Of the trial: its time, and whether it stands still.
    """
    policy = gateway.parts.policy(model)
    if routing is None:
        return [f"Nothing serves yet: homeostat train {model} makes a first version."]
    steps = []
    if retrain is not None:
        run = "runs" if retrain.state == "running" else "was asked for"
        steps.append(f"A retrain {run}; what passes every gate goes on trial.")
    if routing.challenger is not None:
        watch = gateway.watches[model]
        answered = watch.challenger_answers
        steps += _trial(policy, routing, watch.trial, answered, course)
    if routing.standby is not None and policy.mode == "act":
        steps.append(
            f"If labels show version {routing.standby} to do better, traffic goes back to it."
        )
    pause = gateway.parts.pause(model)
    if pause is not None:
        steps.append(
            "Automation is paused: retrains, rollbacks and promotions are recommended to you, and"
            " only a version that fails its callers is taken out by itself."
        )
    elif policy.mode != "act":
        steps.append(f"The policy's mode is '{policy.mode}': nothing moves by itself.")
    return steps or [SILENT]


def next_of_incident(
    gateway: Gateway, incident: Incident, signals: Sequence[SignalNote], routing: Routing | None
) -> str:
    """What comes next for an incident, in the words of its alert; empty: what its model says."""
    if incident.state == "resolved":
        return "Nothing; it is over."
    if incident.state == "mitigated":
        return "Its harm has ended; somebody has to look for the cause."
    if routing is not None and incident.kind not in ASIDE and routing.champion != incident.version:
        return f"Version {routing.champion} serves now; it is over once that is proven."
    found = next((one for one in reversed(signals) if one.kind == incident.kind), None)
    if found is None or incident.kind in ASIDE:
        return "Somebody has to look; traffic does not move by itself."
    policy, signal = gateway.parts.policy(incident.model), _signal(found)
    standby = routing is not None and routing.standby is not None
    said = triage(signal, mode=policy.mode, has_standby=standby)
    if said.action == "retrain" and routing is not None and routing.challenger is not None:
        return ""  # it is on trial: what was learnt of this
    if said.action == "rollback" and policy.mode == "act":
        back = rollback_command(incident.model)
        return f"Traffic goes back to the standby; by hand: {back}"
    address = gateway.settings.prefect_address
    step = next_step(incident.model, policy, signal, said, address)
    return (step[:1].upper() + step[1:]).replace(INCIDENT, incident.id)


def _trial(
    policy: Policy,
    routing: Routing,
    trial: Trial | None,
    answered: int,
    course: TrialRecord | None,
) -> list[str]:
    rules, version = policy.rollout, routing.challenger
    compared = ""
    if trial is not None and trial.rows:
        compared = (
            f" So far {trial.rows:,} labelled rows: loss differs by {trial.low:+.3f} to "
            f"{trial.high:+.3f}."
        )
    where = {
        "shadow": f"Version {version} answers unseen. Shown to be not worse than "
        f"{rules.margin:.3g}, it takes {rules.canary_share:.0%} of the traffic.",
        "canary": f"Version {version} answers {routing.canary_share:.0%} of the traffic: "
        f"{answered:,} of {rules.canary_predictions:,} rows. Then, if not worse, it takes all.",
        "steady": f"Version {version} is challenger; its trial has not begun.",
    }[routing.phase]
    steps = [where + compared]
    if course is not None and course.paused_at is not None:
        return [f"The trial of version {version} stands still, by {course.by}: {course.reason}"]
    if course is not None and routing.phase != "steady":
        left = timedelta(seconds=rules.deadline_seconds) - course.took
        ends = "ends" if rules.inconclusive == "abort" else "is held for a person"
        steps.append(f"Without a verdict in {_long(left)} its trial {ends}.")
    return steps


def _long(span: timedelta) -> str:
    """A stretch of time in one unit."""
    seconds = max(span.total_seconds(), 0.0)
    if seconds >= 7200:
        return f"{seconds / 3600:.0f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"


def _signal(one: SignalNote) -> Signal:
    """A kept signal as its triage reads it."""
    since = one.details.get("since", 0)
    return Signal(
        kind=next(kind for kind in get_args(Kind) if kind == one.kind),
        detector=one.detector,
        evidence=one.evidence,
        threshold=one.threshold,
        rows=int(one.details.get("rows", since) or 0),
        since=int(since or 0),
        details=one.details,
    )
