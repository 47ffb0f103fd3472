"""The loop that keeps what serves, what is decided and what MLflow shows in agreement.

Every gateway follows the routing. Only the one that holds the lease acts: answers alias moves,
moves trials on, opens incidents, asks for retrains, delivers alerts; the lease is checked in each
transaction of that. Two things any gateway may do, guarded by the compare-and-swap of the routing
alone: what a person asks of its API, and the rollback that a label sent to it decides.

It looks every `poll_seconds`, or at once when woken; every look starts from what is there, never
from what was.
"""

from __future__ import annotations

import logging
import math
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from homeostat.errors import HomeostatError
from registry.evidence import record_evidence
from registry.incidents import open_incidents
from serving.background import in_background
from serving.deadman import Deadman
from serving.feedback import Feedback
from serving.forgetting import Forgetter
from serving.guard import Guard, checked
from serving.housekeeping import Housekeeper
from serving.judge import Judge
from serving.keeping import Keeper
from serving.lease import Lease
from serving.parts import Parts
from serving.reconcile import Reconciler
from serving.recovering import Recoverer
from serving.respond import Responder
from serving.rollout import Rollout
from serving.suspects import Suspects
from serving.targets import Targets
from serving.unlogged import Unlogged

JITTER = 0.1  # of the poll interval
SAMPLE_EVERY = timedelta(seconds=1)
ESTIMATE_EVERY = timedelta(seconds=5)
SAVE_EVERY = timedelta(seconds=5)
TIDY_EVERY = timedelta(hours=1)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hands:
    """What the controller acts through, each in its own file.

    Args:
        lease: The right to act.
        guard: Rolls back.
        reconciler: Answers alias moves.
        rollout: Moves trials on.
        suspects: Bars artifacts that are not what was registered.
        responder: Acts on signals.
        feedback: Follows the labels that other gateways took.
        keeper: Saves and restores detectors.
        housekeeper: Removes copies of versions that nobody needs.
        unlogged: Tells of answers that were not logged.
        forgetter: Forgets predictions that are too old or too many.
        deadman: Looks for what does not come.
        judge: Keeps the verdict of what is open.
        recoverer: Follows changes until they are learnt.
        targets: Finds an older version that does well.
    """

    lease: Lease
    guard: Guard
    reconciler: Reconciler
    rollout: Rollout
    suspects: Suspects
    responder: Responder
    feedback: Feedback
    keeper: Keeper
    housekeeper: Housekeeper
    unlogged: Unlogged
    forgetter: Forgetter
    deadman: Deadman
    judge: Judge
    recoverer: Recoverer
    targets: Targets


class Controller:
    """Runs the loop in a thread of its own.

    Args:
        parts: The gateway's.
        hands: What it acts through.
        stopping: Ends the loop.
    """

    def __init__(self, parts: Parts, hands: Hands, stopping: threading.Event) -> None:
        self._parts = parts
        self._hands = hands
        self._stopping = stopping
        self._rows: dict[tuple[str, str], int] = {}
        self._due: dict[str, datetime] = {}
        self._troubles: dict[str, str] = {}
        self._thread = in_background(self._run, "controller")

    @property
    def holds_lease(self) -> bool:
        """Whether this gateway is the one that acts."""
        return self._hands.lease.held

    @property
    def troubles(self) -> dict[str, str]:
        """What went wrong in the last look, by step; empty when all is well."""
        return dict(self._troubles)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """End the loop, save the detectors and give the lease back."""
        self._stopping.set()
        self._parts.wake.set()
        if self._thread.is_alive():
            self._thread.join(seconds)
        if not self.holds_lease:
            return
        try:
            self._hands.keeper.save()
            self._hands.lease.give_back()
        except HomeostatError as error:
            logger.warning("the lease was not given back: %s", error)

    def look(self) -> None:
        """One look at everything, each step by itself: one that fails holds up no other."""
        hands = self._hands
        for model in self._parts.watches:
            self._step(f"follow {model}", self._follow, model)
        self._step("labels", hands.feedback.following.catch_up)
        for model in self._parts.watches:
            checked(hands.guard.check, model)
        self._step("unlogged", hands.unlogged.tell)  # of this gateway's own: no lease is needed
        self._step("lease", hands.lease.hold)
        for model in self._parts.watches:
            self._act_step(f"reconcile {model}", hands.reconciler.run, model)
            self._act_step(f"suspects {model}", hands.suspects.run, model)
            self._act_step(f"act {model}", self._act, model)
            self._act_step(f"silence {model}", hands.deadman.run, model)
        for name, every, step in (
            ("evidence", SAMPLE_EVERY, self._sample),
            ("estimates", ESTIMATE_EVERY, self._estimate),
            ("detectors", SAVE_EVERY, hands.keeper.save),
        ):
            if self._is_due(name, every):
                self._act_step(name, step)
        self._act_step("retention", hands.forgetter.run)
        if self._is_due("copies", TIDY_EVERY):  # of this gateway's own disk: no lease is needed
            self._step("copies", hands.housekeeper.tidy)

    def _run(self) -> None:
        interval = self._parts.settings.poll_seconds
        while not self._stopping.is_set():
            self._parts.wake.clear()
            self.look()
            self._parts.wake.wait(interval * random.uniform(1 - JITTER, 1 + JITTER))

    def _is_due(self, name: str, every: timedelta) -> bool:
        now = self._parts.clock()
        if now < self._due.get(name, now):
            return False
        self._due[name] = now + every
        return True

    def _act_step(self, name: str, step: Callable[..., object], *arguments: str) -> None:
        """A step that acts: only while the lease is held, which any step may find lost."""
        if self.holds_lease:
            self._step(name, step, *arguments)

    def _step(self, name: str, step: Callable[..., object], *arguments: str) -> None:
        try:
            step(*arguments)
        except HomeostatError as error:
            if self._troubles.get(name) != error.code:  # once, not in every look
                logger.warning("%s: %s", name, error)
            self._troubles[name] = error.code
        except Exception:
            if self._troubles.get(name) != "internal":
                logger.exception("%s failed", name)
            self._troubles[name] = "internal"
        else:
            if self._troubles.pop(name, None) is not None:
                logger.info("%s works again", name)

    def _follow(self, model: str) -> None:
        self._parts.follow(model)
        self._hands.keeper.restore(model)

    def _act(self, model: str) -> None:
        routing = self._parts.follow(model)
        if routing is None:
            return
        self._hands.responder.signals(model, routing)
        self._hands.judge.run(model, routing)
        self._hands.rollout.step(model, routing)
        routing = self._parts.follow(model)
        if routing is not None:
            self._hands.targets.run(model, routing)
            self._hands.recoverer.run(model, routing)
            self._hands.responder.retrain(model, routing)

    def _sample(self) -> None:
        samples = []
        for model, watch in self._parts.watches.items():
            for sample in watch.samples():
                labels = (model, sample.detector)
                self._parts.metrics.evidence.labels(*labels).set(sample.value)
                self._parts.metrics.threshold.labels(*labels).set(sample.threshold)
                if self._rows.get(labels) != sample.rows:  # nothing new, nothing to draw
                    self._rows[labels] = sample.rows
                    samples.append(sample)
        with self._hands.lease.acting() as session:
            record_evidence(session, samples)
            for model in self._parts.watches:
                count = len(open_incidents(session, model))
                self._parts.metrics.incidents.labels(model).set(count)

    def _estimate(self) -> None:
        for model, watch in self._parts.watches.items():
            figures = watch.estimate().accuracy or (math.nan,) * 3
            for what, figure in zip(("low", "estimate", "high"), figures, strict=True):
                self._parts.metrics.estimated.labels(model, what).set(figure)
            strange = watch.open_set().limits or (math.nan,) * 3
            for what, figure in zip(("low", "estimate", "high"), strange, strict=True):
                self._parts.metrics.open_set.labels(model, what).set(figure)
