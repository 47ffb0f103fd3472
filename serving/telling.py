"""What the controller has on-call hear: incidents opened, and news about the open ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from monitoring.signals import Signal, Triage, triage
from registry.faults import Fault
from registry.incident_signals import subject_of
from registry.incidents import Incident, inform, mitigate, open_incidents, raise_signal, resolve
from registry.routing import current_routing
from serving.lease import Acting
from serving.parts import Parts

SERVES_ON = "What is loaded serves on, from the copy that is pinned here."
MENDED = "It is mended."


class Teller:
    """Opens incidents and adds to them.

    Args:
        parts: The gateway's.
        acting: Opens the transactions that write.
    """

    def __init__(self, parts: Parts, acting: Acting) -> None:
        self._parts = parts
        self._acting = acting

    def open(
        self,
        model: str,
        version: int,
        signal: Signal,
        verdict: Triage,
        *,
        next_step: str = "",
        done: str = "",
    ) -> Incident:
        """Open an incident, or attach a signal to the open one of the same cause.

        Args:
            model: The model's name.
            version: The version that it is about.
            signal: Why.
            verdict: What it calls for.
            next_step: What comes next, for the alert.
            done: How its harm has ended already: then it is mitigated, in the same alert.
        """
        now, alerts = self._parts.clock(), self._parts.policy(model).alerts
        with self._acting() as session:
            incident = raise_signal(
                session,
                model,
                version,
                signal,
                verdict,
                now,
                "",
                () if done else alerts,
                next_step=next_step,
            )
            if done:
                incident = mitigate(session, incident.id, done, now, alerts, next_step=next_step)
        return incident

    def tell(
        self,
        model: str,
        version: int,
        text: str,
        *,
        done: str = "",
        next_step: str,
        source: str = "rollout",
        severity: str = "ticket",
    ) -> None:
        """Let on-call hear of something: by the incidents that are open, else by one of its own.

        Args:
            model: The model's name.
            version: The one on trial, or the champion.
            text: What happened.
            done: What was done about it; empty: nothing.
            next_step: What comes next, for the alert.
            source: What saw it.
            severity: Of an incident of its own: `page` or `ticket`.
        """
        now, alerts = self._parts.clock(), self._parts.policy(model).alerts
        with self._acting() as session:
            every = open_incidents(session, model)
            incidents = [one for one in every if not subject_of(one.details)]
            for incident in incidents:
                whole = f"{text} {done}".strip()
                inform(session, incident.id, whole, now, alerts, next_step=next_step)
        if not incidents:
            signal = registry_signal(source, text, severity=severity)
            self.open(model, version, signal, triage(signal), next_step=next_step, done=done)

    def stand(self, model: str, faults: Sequence[Fault], known: Collection[str]) -> None:
        """Make the open incidents about faults those that stand: each is told once, and its end.

        Args:
            model: The model's name.
            faults: What stands now.
            known: The subjects that were looked at: an incident about another one stays.

        Raises:
            Refused: the lease was lost.
            Unavailable: the database is away; the next call finds the same.
        """
        now, alerts = self._parts.clock(), self._parts.policy(model).alerts
        with self._acting() as session:
            routing = current_routing(session, model)
            standing = {
                (subject, one.version): one
                for one in open_incidents(session, model)
                if (subject := subject_of(one.details)) in known
            }
            for fault in faults:
                if routing is None or routing.role_of(fault.version) is None:
                    continue  # restored, or replaced, since it was looked at
                before = standing.pop(fault.key, None)
                if before is not None and before.details["reason"] == fault.text:
                    continue
                signal = _fault_signal(fault)
                incident = raise_signal(
                    session, model, fault.version, signal, triage(signal), now, ""
                )
                step = fault.next_step
                inform(session, incident.id, SERVES_ON, now, alerts, next_step=step)
            for incident in standing.values():
                resolve(session, incident.id, MENDED, now, alerts)


def _fault_signal(fault: Fault) -> Signal:
    signal = registry_signal("custody", fault.text, severity=fault.severity)
    return replace(signal, details=signal.details | {"subject": fault.subject})


def registry_signal(detector: str, reason: str, *, severity: str = "ticket") -> Signal:
    """A signal that is no detector's: something about versions that a person has to know."""
    return Signal(
        kind="registry",
        detector=detector,
        evidence=1.0,
        threshold=1.0,
        rows=0,
        since=0,
        details={"reason": reason, "severity": severity},
    )
