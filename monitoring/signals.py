"""From evidence to what is done about it: signals and their triage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from monitoring.inputs import InputDetector

Kind = Literal["input-drift", "loss", "worse-than-standby", "hard-failure", "registry", "silence"]
Severity = Literal["page", "ticket"]
Action = Literal["retrain", "rollback", "watch", "page"]

DATA_BREAK = 0.05  # rise of missing or unseen values that is a broken feed, not a changed world
_GUILTY = 5  # columns named in a signal


class Detector(Protocol):
    """What every detector shows."""

    rows: int
    drift_detected: bool

    @property
    def evidence(self) -> float:
        """Log of the running evidence."""

    @property
    def threshold(self) -> float:
        """The log evidence at which drift is detected."""

    @property
    def since(self) -> int:
        """Rows since the estimated change."""


@dataclass(frozen=True)
class Signal:
    """A threshold crossed.

    Args:
        kind: What it is about.
        detector: The name of the detector that saw it.
        evidence: Its log e-value.
        threshold: What that had to reach.
        rows: Rows (labels) it had seen.
        since: Of these, after the estimated change.
        details: Plain JSON; for `input-drift` the guilty columns as `features`.
    """

    kind: Kind
    detector: str
    evidence: float
    threshold: float
    rows: int
    since: int
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Triage:
    """What a signal calls for: who is told, what is done, and why in one sentence."""

    severity: Severity
    action: Action
    reason: str


def read_signal(kind: Kind, detector: Detector, **details: object) -> Signal:
    """The signal of a detector as it stands; an input detector's names the guilty columns."""
    plain: dict[str, Any] = dict(details)
    if isinstance(detector, InputDetector):
        plain["features"] = [vars(feature) for feature in detector.guilty(_GUILTY)]
    return Signal(
        kind=kind,
        detector=type(detector).__name__,
        evidence=detector.evidence,
        threshold=detector.threshold,
        rows=detector.rows,
        since=detector.since,
        details=plain,
    )


def triage(signal: Signal, *, mode: str = "act", has_standby: bool = True) -> Triage:
    """Decide what a signal calls for.

    A loss of accuracy or a failure pages; an input that merely moved is a ticket, since the
    model may hold (FEATURES: severity by consequence). Values gone missing or never seen are a
    data break, and so is a column in another unit, out of its range, constant or gone
    (`monitoring.breaks`): learning from them would teach the fault, so somebody is called
    instead. Only labels and hard failures move traffic.

    Args:
        signal: What crossed its threshold.
        mode: The policy's: only `act` retrains or rolls back; else the reason recommends it.
        has_standby: Whether there is a version to go back to.
    """
    verdict = _by_kind(signal, has_standby=has_standby)
    if mode != "act" and verdict.action in ("retrain", "rollback"):
        reason = f"{verdict.reason} Recommended: {verdict.action}; the policy's mode is '{mode}'."
        return Triage(verdict.severity, "page" if mode == "recommend" else "watch", reason)
    return verdict


def _by_kind(signal: Signal, *, has_standby: bool) -> Triage:
    if signal.kind == "input-drift":
        return _inputs(signal.details.get("features", []), signal.details.get("breaks", []))
    if signal.kind == "loss":
        reason = (
            f"The mean loss has risen above its reference: seen in {signal.rows} labels, for about "
            f"the last {signal.since} of them."
        )
        return Triage("page", "retrain", reason)
    if signal.kind in ("registry", "silence"):
        reason = str(signal.details.get("reason", "MLflow and the routing disagree."))
        severity: Severity = "page" if signal.details.get("severity") == "page" else "ticket"
        return Triage(severity, "watch", reason)
    cause = (
        f"The champion loses more than the standby on the same rows, for about the last "
        f"{signal.since} labels."
        if signal.kind == "worse-than-standby"
        else str(signal.details.get("reason", "The version fails."))
    )
    if has_standby:
        return Triage("page", "rollback", cause)
    return Triage("page", "page", f"{cause} There is no standby to go back to.")


def _inputs(features: list[dict[str, Any]], breaks: list[dict[str, Any]]) -> Triage:
    if breaks:
        said = "; ".join(f"{one['reason']} ({one['remedy']})" for one in breaks)
        return Triage("page", "page", f"Data break: {said}. Not to be learnt from.")
    broken = [f for f in features if f["broken"] >= DATA_BREAK and f["evidence"] > 0]
    if broken:
        named = ", ".join(f"{f['name']} (+{f['broken']:.0%})" for f in broken)
        reason = (
            f"Data break: values missing or never seen before in {named}. Not to be learnt from."
        )
        return Triage("page", "page", reason)
    named = ", ".join(f"{f['name']} ({f['total_variation']:.2f})" for f in features[:3])
    reason = f"The inputs moved: {named or 'unnamed'}. Labels will tell whether accuracy fell."
    return Triage("ticket", "watch", reason)
