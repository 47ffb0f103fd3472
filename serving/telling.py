"""What the controller has on-call hear: incidents opened, and news about the open ones."""

from __future__ import annotations

from monitoring.signals import Signal, Triage, triage
from registry.incidents import Incident, inform, mitigate, open_incidents, raise_signal
from serving.lease import Acting
from serving.parts import Parts


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

    def tell(self, model: str, version: int, text: str, *, done: str = "", next_step: str) -> None:
        """Let on-call hear of a trial: by the incidents that are open, else by one of its own.

        Args:
            model: The model's name.
            version: The one on trial.
            text: What happened.
            done: What was done about it; empty: nothing.
            next_step: What comes next, for the alert.
        """
        now, alerts = self._parts.clock(), self._parts.policy(model).alerts
        with self._acting() as session:
            incidents = open_incidents(session, model)
            for incident in incidents:
                whole = f"{text} {done}".strip()
                inform(session, incident.id, whole, now, alerts, next_step=next_step)
        if not incidents:
            signal = registry_signal("rollout", text)
            self.open(model, version, signal, triage(signal), next_step=next_step, done=done)


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
