"""What comes next, in the words of an alert, and the commands that on-call can paste."""

from __future__ import annotations

import shlex

from homeostat.policy import Policy
from monitoring.recovery import Recovery
from monitoring.signals import Signal, Triage
from registry.incident_alerts import INCIDENT


def rollback_command(model: str) -> str:
    """Gives the traffic of a model back to its standby."""
    return f"homeostat rollback {shlex.quote(model)} --reason 'why'"


def promote_command(model: str, version: int, *, override: bool = False) -> str:
    """Makes a version champion; with `override` whatever its gates or a quarantine say."""
    leave = " --override" if override else ""
    why = f"why {version} is right after all" if override else "why"
    return f"homeostat promote {shlex.quote(model)} --version {version}{leave} --reason '{why}'"


def rollout_commands(model: str) -> str:
    """What a person may do to a trial that waits for one."""
    name = shlex.quote(model)
    return f"homeostat rollout resume, skip or abort {name} --reason 'why'"


def retrain_command(model: str, prefect_api: str) -> str:
    """Starts a retrain about an incident (its id is put in where the alert is written)."""
    return (
        f"PREFECT_API_URL={shlex.quote(prefect_api)} prefect deployment run retrain/retrain "
        f"-p {shlex.quote(f'model={model}')} -p incident_id={INCIDENT}"
    )


def adopted_step(model: str) -> str:
    """What follows a loss of accuracy of a version that cannot be trained here."""
    return (
        "it was adopted and cannot be trained here: adopt a newer one, or train a version with a "
        f"learner: homeostat train {shlex.quote(model)}"
    )


def next_step(
    model: str, policy: Policy, signal: Signal, triage: Triage, prefect_api: str, blocked: str = ""
) -> str:
    """What a signal leads to under a policy.

    Args:
        model: The model's name.
        policy: Of the model.
        signal: What crossed its threshold.
        triage: What it calls for.
        prefect_api: Where retrains run.
        blocked: Why there is no way back to a standby, where one is wanted.
    """
    if policy.mode == "observe":
        return "nothing by itself: the policy's mode is 'observe'."
    if signal.kind in ("worse-than-standby", "hard-failure"):
        if blocked:
            return f"somebody has to promote a good version. {blocked}"
        return f"the rollback is left to you: {rollback_command(model)}"
    if triage.action == "page" and signal.kind == "input-drift":
        return "somebody has to look at the feed; nothing is learnt from it."
    if signal.kind == "loss":
        if policy.mode == "recommend":
            command = retrain_command(model, prefect_api)
            return f"the retrain is left to you: {command}"
        count = policy.retrain.min_labels
        return f"a retrain starts by itself once {count} labels have come since the change."
    if policy.mode == "recommend":
        return "if accuracy fell, an alert with the command that retrains."
    return "if accuracy fell, a retrain starts by itself."


def recovery_step(policy: Policy, recovery: Recovery) -> str:
    """What follows while a change is still being learnt.

    Args:
        policy: Of the model.
        recovery: How far it has come, in labelled rows since the change.
    """
    labels = recovery.next_at(policy.retrain.min_labels)
    bound = recovery.healthy + policy.monitor.tolerance_loss
    retrain = {
        "act": "a retrain starts by itself",
        "recommend": "a retrain is recommended to you",
        "observe": "nothing starts by itself, for the policy's mode is 'observe'",
    }[policy.mode]
    return (
        f"its losses are held to those of before the change (mean {recovery.healthy:.3f}); once "
        f"{labels:,} labels have come since the change, and unless their mean is at most "
        f"{bound:.3f} by then, {retrain}."
    )
