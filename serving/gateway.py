"""One gateway: everything built, wired, started and stopped in the right order."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from typing import Any

import torch

from homeostat.clock import Clock, utc_now
from homeostat.errors import HomeostatError
from homeostat.settings import Settings
from registry.database import check_schema, connect, sessions
from registry.versions import MlflowVersions
from serving.access import Access
from serving.answering import Answered
from serving.background import in_background
from serving.batching import Batcher
from serving.bounded_spool import BoundedSpool
from serving.controller import Controller, Hands
from serving.counted import Counted
from serving.courier import Courier
from serving.custody import Custodian
from serving.deadman import Deadman
from serving.draining import Leaving
from serving.feedback import Feedback
from serving.fleet import Fleet, Split
from serving.forgetting import Forgetter
from serving.gathering import Gathering
from serving.guard import Guard, checked
from serving.housekeeping import Housekeeper
from serving.judge import Judge
from serving.keeping import Keeper
from serving.lease import Lease
from serving.library import Library
from serving.metrics import Metrics
from serving.moves import Moves
from serving.parts import Parts
from serving.predicting import Predictor
from serving.proof import Prover
from serving.reconcile import Reconciler
from serving.recovering import Recoverer
from serving.relaxed_spool import RelaxedSpool
from serving.respond import Prefect, Responder
from serving.restoring import restore, view_of
from serving.rollout import Rollout
from serving.shadows import Shadows
from serving.steering import Steering
from serving.suspects import Suspects
from serving.targets import Targets
from serving.telling import Teller
from serving.token_watch import TokenWatch
from serving.traces import Traces
from serving.unlogged import Unlogged
from serving.watch import Watch
from serving.webhook import Webhook
from serving.writer import Writer

ANSWER_SECONDS = 10.0  # that the database may be silent: SQLite's may be locked as long
FOLD_SECONDS = 0.2
STOP_SECONDS = 4.0  # for all threads together, when the process is asked to end
SWITCH_SECONDS = 0.0001  # how long a busy thread may keep the answering one waiting

logger = logging.getLogger(__name__)


class Gateway:
    """The parts of one gateway process.

    Args:
        settings: Of this installation.
        clock: The present moment.
        store: MLflow's registry; made from the settings where not given.
    """

    def __init__(
        self, settings: Settings, clock: Clock = utc_now, store: MlflowVersions | None = None
    ) -> None:
        self.settings = settings
        self.store = store or MlflowVersions(settings.mlflow_address)
        self._engine = connect(settings.database, answer_seconds=ANSWER_SECONDS)
        self._stopping = threading.Event()
        self.metrics = Metrics()
        self.leaving = Leaving()
        self.fleet = Fleet(tuple(settings.models))
        self.watches = {
            name: Watch(name, policy, clock) for name, policy in settings.models.items()
        }
        self.parts = Parts(
            settings=settings,
            clock=clock,
            maker=sessions(self._engine),
            reader=sessions(self._engine, read_only=True),
            fleet=self.fleet,
            library=Library(settings, self.store),
            watches=self.watches,
            metrics=self.metrics,
        )
        self.moves = Moves(self.parts)  # for what a person asks
        self.steering = Steering(self.parts, self.moves)
        kind = RelaxedSpool if settings.log.durability == "relaxed" else BoundedSpool
        self._spool = kind(settings.state_dir / "spool", settings.max_spool_bytes)
        self.unlogged = Unlogged(self.parts, Teller(self.parts, self.parts.writing))
        guard = Guard(self.parts)
        self.feedback = Feedback(self.parts, self._drain, lambda model: checked(guard.check, model))
        shadows = Shadows(
            self.fleet,
            self.metrics,
            lambda model, version: self.watches[model].shadow_failed(version),
        )
        self.writer = Writer(
            self._spool, shadows, self.parts.maker, self.metrics, self.feedback.joined
        )
        self.prefect = Prefect(settings.prefect_address)
        self.lease = Lease(self.parts)
        counted, teller = Counted(), Teller(self.parts, self.lease.acting)
        self.prover = Prover(self.parts, counted, self.lease, teller, self._stopping)
        self.custodian = Custodian(
            self.parts, self.store, self.lease, teller, self.prover.pointers, self._stopping
        )
        self.gathering = Gathering(self.parts, self._stopping)
        self.keeper = Keeper(self.parts, self.feedback, self.gathering, self.lease)
        self.feedback.prepare = self.keeper.restore_all
        self.controller = Controller(self.parts, self._hands(guard), self._stopping)
        self._courier = Courier(self.parts, lambda: self.lease.held, self._stopping)
        self._folder = in_background(self._fold, "monitors")
        self.access = Access(settings)
        self.tokens = TokenWatch(self.parts, self.access, self._stopping)
        hint = settings.webhook_secret.get_secret_value()
        self.webhook = Webhook(hint, clock, self.parts.wake.set)
        self.batcher = Batcher(
            self.fleet,
            self._spool,
            self.metrics,
            self._observe,
            clock,
            counted,
            self.unlogged.add if settings.log.when_full == "unlogged" else None,
            settings.max_queue_ms,
        )
        self.traces = Traces(settings.tracing, self.metrics.seconds.show)
        self.predictor = Predictor(
            self.access,
            self.fleet,
            self.batcher,
            self.metrics,
            max_body_bytes=settings.max_body_bytes,
            max_rows=settings.max_rows,
            traces=self.traces,
            max_elements=settings.max_elements,
        )

    def digest(self, model: str, version: int) -> str:
        """The digest that a version was registered with.

        Raises:
            UnknownVersion: there is no such version.
            ArtifactError: it was registered without one.
            Unavailable: MLflow is away.
        """
        return self.store.digest(model, version)

    def start(self) -> None:
        """Serve what served last, and begin to follow what is wanted now."""
        torch.set_num_threads(1)  # the event loop is one thread; more would only fight over cores
        sys.setswitchinterval(SWITCH_SECONDS)
        for split in self.parts.library.kept().values():
            self.parts.swap(split)
        for model in self.watches:
            try:
                self.parts.follow(model)
                self.keeper.restore(model)  # before the first label
            except HomeostatError as error:
                logger.warning("%s follows later: %s", model, error)
        try:
            check_schema(self._engine)
        except HomeostatError as error:
            logger.warning("%s", error)
        self.gathering.start()
        self.tokens.start()
        gc.collect()
        gc.freeze()  # what was imported never becomes garbage: collections stay short
        self.writer.start()
        self.controller.start()
        self._courier.start()
        self._folder.start()
        self.prover.start()
        self.custodian.start()

    def stop(self) -> None:
        """End the threads and bring what was answered to the database."""
        self._stopping.set()
        self.parts.wake.set()
        self.parts.moved.set()
        self.parts.news.set()
        until = time.monotonic() + STOP_SECONDS

        def left() -> float:
            return max(0.1, until - time.monotonic())

        if self._folder.is_alive():
            self._folder.join(left())
        self.traces.stop()
        self.gathering.stop(left())  # what was answered last counts as well
        self.prover.stop(left())
        self.custodian.stop(left())
        self.controller.stop(left())
        self.tokens.stop(left())
        self._courier.stop(left())
        self.writer.stop(left())
        self._spool.close()
        self.prefect.close()
        self.store.close()
        self._engine.dispose()

    def restore(self, model: str, version: int | None, actor: str, reason: str) -> dict[str, Any]:
        """Register what MLflow lost again, and answer once the answers show the new numbers.

        Raises:
            HomeostatError: as `serving.restoring.restore` and `Prover.wait`.
        """
        restored, routing = restore(
            self.parts, self.custodian, self.store, model, version, actor, reason
        )
        if routing is not None:
            self.prover.wait(routing)
        return view_of(restored, routing)

    def _hands(self, guard: Guard) -> Hands:
        """What the controller acts through: every transaction of it is the lease holder's."""
        parts, acting = self.parts, self.lease.acting
        moves, teller = Moves(parts, acting), Teller(parts, acting)
        recoverer = Recoverer(parts, acting)
        return Hands(
            lease=self.lease,
            guard=guard,
            reconciler=Reconciler(parts, moves, teller, self.store, self.lease, self._stopping),
            rollout=Rollout(parts, moves, teller, acting),
            suspects=Suspects(parts, teller, acting),
            responder=Responder(parts, guard, teller, acting, self.prefect, recoverer),
            recoverer=recoverer,
            targets=Targets(parts, teller, acting),
            feedback=self.feedback,
            keeper=self.keeper,
            housekeeper=Housekeeper(parts, self.store),
            unlogged=self.unlogged,
            forgetter=Forgetter(parts, self.feedback, acting),
            judge=Judge(parts, acting),
            deadman=Deadman(parts, teller, acting, lambda: self.gathering.known),
        )

    def _drain(self) -> int:
        return self.writer.drain()

    def _observe(self, split: Split, done: Answered) -> None:
        watch = self.watches[split.model]
        watch.observe(split, done)
        for version, count in done.failures.items():
            self.metrics.failures.labels(split.model, version).inc(count)
        if done.champion_alone_failed and watch.rollback_signal() is not None:
            self.parts.wake.set()  # the controller rolls back: this thread has callers waiting

    def _fold(self) -> None:
        while not self._stopping.wait(FOLD_SECONDS):
            self._fold_once()

    def _fold_once(self) -> None:
        for watch in self.watches.values():
            watch.fold()
