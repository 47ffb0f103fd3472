"""The fast rollback: the deciding label, or the third failing batch, sends traffic back.

The routing is written by compare-and-swap, with the quarantine and the incident in the same
transaction; then the split in memory is swapped, for which the standby is loaded already. The
alias in MLflow follows by the controller, which is woken. Any gateway may roll back, lease or
not: the labels that it took are known to it alone, and of two only one wins the number.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from homeostat.errors import HomeostatError, NoTarget, StaleGeneration
from monitoring.signals import Signal, triage
from registry.claims import MITIGATES, UNDO
from registry.incidents import raise_signal
from registry.ledger import hold
from registry.pauses import standing_pause
from registry.promotion import quarantine, rollback
from registry.routing import Routing
from serving.advice import promote_command
from serving.fleet import Split
from serving.parts import Parts

ACTOR = "guard"
HARD_FAILURE = "hard-failure"

logger = logging.getLogger(__name__)


class Paused(Exception):
    """Somebody has paused automation since this gateway last looked."""


class Guard:
    """Sends traffic back to the standby when evidence says so.

    Args:
        parts: The gateway's.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.blocked: dict[str, str] = {}
        """By model: why there is no way back although the evidence asks for one."""

    def check(self, model: str) -> Routing | None:
        """Roll back if the evidence and the policy ask for it; the new routing, if so.

        Level-triggered: called after every label and in every round of the controller, so that
        a decision that met a database away is carried out when it is back.
        """
        parts = self._parts
        watch = parts.watches[model]
        if not self._may_act(model, watch.rollback_signal()):
            self.blocked.pop(model, None)
            return None
        with parts.steering(model):
            signal = watch.rollback_signal()  # another thread may have acted meanwhile
            split = parts.fleet.get(model)
            if signal is None or not self._may_act(model, signal):
                return None
            if split is None or split.standby is None:
                return None
            try:
                routing = self._write(split, signal)
            except (StaleGeneration, Paused) as error:
                logger.info("no rollback of %s: %s", model, error)
                parts.wake.set()  # the controller follows whoever was first
                return None
            except NoTarget as error:  # the controller tells on-call
                if self.blocked.get(model) != str(error):
                    logger.warning("no rollback of %s: %s", model, error)
                self.blocked[model] = str(error)
                return None
            self._swap(split, routing)
        parts.metrics.rollbacks.labels(model).inc()
        parts.wake.set()
        return routing

    def _may_act(self, model: str, signal: Signal | None) -> bool:
        """By the policy. While automation is paused only what fails its callers is taken out."""
        if signal is None:
            return False
        if signal.kind == HARD_FAILURE:
            return self._parts.acts_on_failure(model)
        return self._parts.policy(model).mode == "act"

    def _swap(self, split: Split, routing: Routing) -> None:
        assert split.standby is not None
        back = Split(
            model=split.model,
            generation=routing.generation,
            champion=split.standby,
            standby_share=split.standby_share,
        )
        self._parts.swap(back)

    def _write(self, split: Split, signal: Signal) -> Routing:
        parts, model, bad = self._parts, split.model, split.champion
        assert split.standby is not None
        now = parts.clock()
        reason = reason_of(signal, bad.version, split.standby.version)
        with parts.writing() as session:
            # The ledger before any incident, as every writer of both: else two of them may each
            # hold what the other waits for.
            hold(session, model)
            pause = standing_pause(session, model, now)
            if pause is not None and signal.kind != HARD_FAILURE:  # by another gateway, just now
                parts.know_pause(model, pause)
                raise Paused(f"{pause.actor} has paused automation: {pause.reason}")
            # Then the incident: its cause is the release that ends here. Its alert goes out once
            # the answers show that traffic went back (`registry.claims`).
            incident = raise_signal(session, model, bad.version, signal, triage(signal), now, "")
            routing = rollback(
                session,
                model,
                ACTOR,
                reason,
                {
                    "signal": signal.kind,
                    "evidence": signal.evidence,
                    "incident": incident.id,
                    MITIGATES: [incident.id],
                    UNDO: promote_command(model, bad.version, override=True),
                },
                now,
                expected=split.generation,
            )
            quarantine(session, model, bad.digest, reason, now, actor=ACTOR, version=bad.version)
        logger.warning("rolled %s back to version %d: %s", model, split.standby.version, reason)
        return routing


def reason_of(signal: Signal, bad: int, standby: int) -> str:
    """Why traffic went back, in a sentence."""
    if told := signal.details.get("reason"):
        return f"Version {bad} was started again and is another model now: {told}"
    if signal.kind == HARD_FAILURE:
        return (
            f"Version {bad} failed {signal.rows} batches within seconds that version "
            f"{standby} could answer."
        )
    return (
        f"Version {bad} is worse than version {standby} on the rows that both answered "
        f"(evidence {signal.evidence:.1f}, threshold {signal.threshold:.1f}, "
        f"{signal.rows} labels)."
    )


def checked(check: Callable[[str], object], model: str) -> None:
    """Run a check whose failure must not fail its caller, such as a label that was kept."""
    try:
        check(model)
    except HomeostatError as error:
        logger.warning("the check of %s is put off: %s", model, error)
