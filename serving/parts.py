"""What the acting parts of one gateway share."""

from __future__ import annotations

import contextlib
import logging
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sqlalchemy.orm import Session, sessionmaker

from homeostat.clock import Clock
from homeostat.errors import Unavailable
from homeostat.policy import Policy
from homeostat.settings import Settings
from registry.database import transaction
from registry.pauses import Pause, standing_pause
from registry.release_history import find_release
from registry.routing import Routing, current_routing
from serving.fleet import Fleet, Split
from serving.library import Library
from serving.metrics import Metrics
from serving.watch import Watch

logger = logging.getLogger(__name__)


@dataclass
class Parts:
    """The collaborators of one gateway, built once by `serving.gateway`.

    Args:
        settings: Of this installation.
        clock: The present moment.
        maker: Writing sessions of the lifecycle database.
        reader: Sessions that only read.
        fleet: What serves.
        library: Loads versions.
        watches: The monitors of each model.
        metrics: What is counted.
        wake: Set to let the controller look at once.
    """

    settings: Settings
    clock: Clock
    maker: sessionmaker[Session]
    reader: sessionmaker[Session]
    fleet: Fleet
    library: Library
    watches: dict[str, Watch]
    metrics: Metrics
    wake: threading.Event = field(default_factory=threading.Event)
    wanted: dict[str, int] = field(default_factory=dict)  # generation by model, as last read
    moved: threading.Event = field(default_factory=threading.Event)  # set at each swap
    shown: dict[str, int] = field(default_factory=dict)  # generation that answers here have shown
    proven: dict[str, int] = field(default_factory=dict)  # and those of every live gateway
    news: threading.Event = field(default_factory=threading.Event)  # for the other gateways
    gateway_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    database_up: bool = True

    def __post_init__(self) -> None:
        self._steering = {model: threading.RLock() for model in self.watches}
        self._paused: dict[str, tuple[Pause, Policy]] = {}
        self._digests: dict[str, tuple[Routing, dict[int, str]]] = {}

    def policy(self, model: str) -> Policy:
        """The policy of a model; while its automation is paused it recommends and does not act."""
        held = self._paused.get(model)
        if held is not None and held[0].stands(self.clock()):
            return held[1]
        return self.settings.policy(model)

    def pause(self, model: str) -> Pause | None:
        """The pause of a model's automation, as last read, or None."""
        held = self._paused.get(model)
        return held[0] if held is not None and held[0].stands(self.clock()) else None

    def know_pause(self, model: str, pause: Pause | None) -> None:
        """Go by a pause from now on; None: by the policy alone."""
        if pause is None:
            self._paused.pop(model, None)
            return
        policy = self.settings.policy(model)
        if policy.mode == "act":
            policy = policy.model_copy(update={"mode": "recommend"})
        self._paused[model] = (pause, policy)

    def acts_on_failure(self, model: str) -> bool:
        """Whether what fails its callers is taken out by itself: a pause does not keep it in."""
        return self.settings.policy(model).mode == "act"

    def steering(self, model: str) -> threading.RLock:
        """Held while the routing of a model is changed here, from the database to memory."""
        return self._steering[model]

    @contextlib.contextmanager
    def writing(self) -> Iterator[Session]:
        """One writing transaction, with the database's health noted.

        Raises:
            Unavailable: the database is away; nothing was kept.
        """
        with self._noting(), transaction(self.maker) as session:
            yield session

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        """One reading transaction, with the database's health noted.

        Raises:
            Unavailable: the database is away.
        """
        with self._noting(), transaction(self.reader) as session:
            yield session

    def obey(self, routing: Routing, digests: Mapping[int, str] | None = None) -> Split | None:
        """Serve by a routing from the next batch on; None if a newer one is obeyed already.

        Args:
            routing: As the database has it.
            digests: Of its versions, where known: what is loaded has to be that.

        Raises:
            HomeostatError: its champion cannot be loaded; what served serves on.
        """
        # Loading may take seconds: it is done before the lock, so that a rollback never waits.
        share = self.policy(routing.model).rollback.standby_share
        split = self.library.split(routing, share, digests or {})
        return split if self.swap(split) else None

    def swap(self, split: Split) -> bool:
        """Serve by a split from the next batch on; False if a newer one is obeyed already."""
        with self.steering(split.model):
            if not self.fleet.swap(split):
                return False
            self.watches[split.model].follow(split)
        self.moved.set()
        self._note(split)
        return True

    def follow(self, model: str) -> Routing | None:
        """Read the routing of a model and obey it if it is not what serves.

        Raises:
            HomeostatError: the database is away, or the champion cannot be loaded.
        """
        routing, digests = self.intent(model)
        if routing is None:
            return None
        split = self.fleet.get(model)
        if split is not None and split.generation > routing.generation:
            # Either we swapped since the look, or the database was put back: look under the lock.
            with self.steering(model):
                routing, digests = self.intent(model)
                if routing is None:
                    return None
                if split.generation > routing.generation:
                    logger.warning("the ledger of %s went back to an earlier state", model)
                    self.fleet.forget(model)
        if split is None or not _same(split, routing):
            self.obey(routing, digests)
        return routing

    def intent(self, model: str) -> tuple[Routing | None, dict[int, str]]:
        """The routing of a model as the database has it, and its versions' digests, where known.

        Raises:
            Unavailable: the database is away.
        """
        with self.reading() as session:
            self.know_pause(model, standing_pause(session, model, self.clock()))
            routing = current_routing(session, model)
            if routing is None:
                return None, {}
            self.wanted[model] = routing.generation
            known = self._digests.get(model)
            if known is not None and known[0] == routing:  # releases move with the routing alone
                return known
            digests: dict[int, str] = {}
            for version in (routing.champion, routing.challenger, routing.standby):
                release = find_release(session, model, version) if version else None
                if version and release and release.digest:
                    digests[version] = release.digest
        self._digests[model] = routing, digests
        return routing, digests

    def _note(self, split: Split) -> None:
        self.metrics.generation.labels(split.model).set(split.generation)
        self.metrics.champion.labels(split.model).set(split.champion.version)
        splits = self.fleet.snapshot()
        self.library.drop_unused(splits)
        try:
            self.library.keep(splits)
        except OSError as error:
            logger.warning("what serves could not be written down: %s", error)
        logger.info(
            "%s obeys generation %d: champion %d, challenger %s, standby %s, %s",
            split.model,
            split.generation,
            split.champion.version,
            split.challenger.version if split.challenger else "none",
            split.standby.version if split.standby else "none",
            split.phase,
        )

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except Unavailable:
            if self.database_up:
                logger.warning("the lifecycle database is away")
            self.database_up = False
            self.metrics.part_up.labels("database").set(0)
            raise
        if not self.database_up:
            logger.info("the lifecycle database is back")
            self.wake.set()  # what was ordered meanwhile is obeyed at once
        self.database_up = True
        self.metrics.part_up.labels("database").set(1)


def _same(split: Split, routing: Routing) -> bool:
    """Whether a routing is what serves, whole; a version that was left out is tried again."""
    loaded = {one.version for one in split.versions}
    wanted = {routing.champion, routing.challenger, routing.standby} - {None}
    return split.generation == routing.generation and loaded == wanted
