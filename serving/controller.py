"""The loop that keeps what serves, what is decided and what MLflow shows in agreement.

Every gateway follows the routing. Only the one that holds the lease acts: answers alias moves,
moves trials on, opens incidents, asks for retrains, delivers alerts. It looks every
`poll_seconds`, or at once when woken; every look starts from what is there, never from what was.
"""

from __future__ import annotations

import logging
import random
import socket
import threading
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

from homeostat.errors import HomeostatError, Unavailable
from registry.evidence import load_detectors, record_evidence, save_detector
from registry.incidents import open_incidents
from registry.leases import acquire, release
from serving.guard import Guard, checked
from serving.parts import Parts
from serving.reconcile import Reconciler
from serving.respond import Responder
from serving.rollout import Rollout

LEASE = "controller"
LEASE_SECONDS = 15.0
JITTER = 0.1  # of the poll interval
SAMPLE_EVERY = timedelta(seconds=1)
SAVE_EVERY = timedelta(seconds=5)

logger = logging.getLogger(__name__)


class Controller:
    """Runs the loop in a thread of its own.

    Args:
        parts: The gateway's.
        guard: Rolls back.
        reconciler: Answers alias moves.
        rollout: Moves trials on.
        responder: Acts on signals.
        stopping: Ends the loop.
    """

    def __init__(
        self,
        parts: Parts,
        guard: Guard,
        reconciler: Reconciler,
        rollout: Rollout,
        responder: Responder,
        stopping: threading.Event,
    ) -> None:
        self._parts = parts
        self._guard = guard
        self._reconciler = reconciler
        self._rollout = rollout
        self._responder = responder
        self._stopping = stopping
        self._holder = f"{socket.gethostname()}/{uuid.uuid4().hex[:12]}"
        self._token: int | None = None
        self._restored: set[str] = set()
        self._rows: dict[tuple[str, str], int] = {}
        self._sampled = self._saved = datetime.min.replace(tzinfo=parts.clock().tzinfo)
        self._troubles: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="controller", daemon=True)

    @property
    def holds_lease(self) -> bool:
        """Whether this gateway is the one that acts."""
        return self._token is not None

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
        if self._token is None:
            return
        try:
            self._save()
            with self._parts.writing() as session:
                release(session, LEASE, self._token)
        except HomeostatError as error:
            logger.warning("the lease was not given back: %s", error)

    def look(self) -> None:
        """One look at everything, each step by itself: one that fails holds up no other."""
        for model in self._parts.watches:
            self._step(f"follow {model}", self._follow, model)
            checked(self._guard.check, model)
        self._step("lease", self._hold, "")
        if self._token is None:
            return
        for model in self._parts.watches:
            self._step(f"reconcile {model}", self._reconciler.run, model)
            self._step(f"act {model}", self._act, model)
        now = self._parts.clock()
        if now - self._sampled >= SAMPLE_EVERY:
            self._sampled = now
            self._step("evidence", self._sample, "")
        if now - self._saved >= SAVE_EVERY:
            self._saved = now
            self._step("detectors", lambda _: self._save(), "")

    def _run(self) -> None:
        interval = self._parts.settings.poll_seconds
        while not self._stopping.is_set():
            self._parts.wake.clear()
            self.look()
            self._parts.wake.wait(interval * random.uniform(1 - JITTER, 1 + JITTER))

    def _step(self, name: str, step: Callable[[str], object], model: str) -> None:
        try:
            step(model)
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
        if model not in self._restored and self._parts.fleet.get(model) is not None:
            self._restore(model)
            self._restored.add(model)

    def _hold(self, _: str) -> None:
        try:
            with self._parts.writing() as session:
                now = self._parts.clock()
                token = acquire(session, LEASE, self._holder, LEASE_SECONDS, now)
        except Unavailable:
            self._token = None  # whoever reaches the database may take it
            self._parts.metrics.lease.set(0)
            raise
        if (token is None) != (self._token is None):
            logger.info("this gateway %s", "acts" if token is not None else "follows another")
        self._token = token
        self._parts.metrics.lease.set(0 if token is None else 1)

    def _act(self, model: str) -> None:
        routing = self._parts.follow(model)
        if routing is None:
            return
        self._responder.signals(model, routing)
        self._rollout.step(model, routing)
        routing = self._parts.follow(model)
        if routing is not None:
            self._responder.retrain(model, routing)

    def _sample(self, _: str) -> None:
        samples = []
        for model, watch in self._parts.watches.items():
            for sample in watch.samples():
                labels = (model, sample.detector)
                self._parts.metrics.evidence.labels(*labels).set(sample.value)
                self._parts.metrics.threshold.labels(*labels).set(sample.threshold)
                if self._rows.get(labels) != sample.rows:  # nothing new, nothing to draw
                    self._rows[labels] = sample.rows
                    samples.append(sample)
        with self._parts.writing() as session:
            record_evidence(session, samples)
            for model in self._parts.watches:
                count = len(open_incidents(session, model))
                self._parts.metrics.incidents.labels(model).set(count)

    def _save(self) -> None:
        now = self._parts.clock()
        with self._parts.writing() as session:
            for model, watch in self._parts.watches.items():
                for (version, name), state in watch.states().items():
                    save_detector(session, model, version, name, state, now)

    def _restore(self, model: str) -> None:
        split = self._parts.fleet.get(model)
        if split is None:
            return
        states: dict[tuple[int, str], str] = {}
        with self._parts.reading() as session:
            for loaded in split.versions:
                for name, state in load_detectors(session, model, loaded.version).items():
                    states[loaded.version, name] = str(state)
        self._parts.watches[model].restore(states)
