"""What answers, measured where the answers leave, and held against what was ordered.

A swap is not believed because somebody called it: a routing is *shown* by a gateway when its
answers show it, or when for a while nobody asked and what would answer is what it says; and it is
*proven* when every live gateway of the database has shown it (`serving.gathering`). Only then is
success claimed: to who asked for the swap, to on-call, on MLflow's page. What does not follow
within seconds is an incident, which names the gateway.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from homeostat.errors import HomeostatError, NotProven
from registry.claims import claim, tell_unproven
from registry.faults import TRAFFIC, Fault
from registry.gateways import behind, live_gateways
from registry.routing import Routing
from serving.background import in_background
from serving.counted import Counted, Key
from serving.lease import Lease
from serving.parts import Parts
from serving.telling import Teller

ENOUGH_ROWS = 20  # answers in a row that show a routing
QUIET_SECONDS = 0.5  # or so long without a contrary one
PATIENCE_SECONDS = 5.0  # that a caller waits for its move to show
TELL_SECONDS = 7.0  # how long the traffic may differ from the routing before on-call hears of it
EAGER_SECONDS = 0.05  # between looks while a routing is not proven

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Agreement:
    """Intent, pointer and measured traffic of one model.

    Args:
        generation: Of the routing: the intent.
        intent: The version that is to answer.
        pointer: Where MLflow's alias champion points; None: nowhere, or it was not read.
        measured: The versions that answered since the last look with answers in it.
        state: `proven`, `waiting` (just written) or `differs`.
        differs: Which of the three is not as the others: `pointer` or `traffic`; empty: none.
    """

    generation: int
    intent: int
    pointer: int | None
    measured: tuple[int, ...]
    state: Literal["proven", "waiting", "differs"]
    differs: str = ""


@dataclass
class _Course:
    """How one model's traffic came to follow its routing."""

    generation: int = 0
    since: float = 0.0  # when that was first looked at
    contrary: float = 0.0  # when an answer last showed another
    wrong: float | None = None  # since when it has not agreed
    streak: int = 0  # rows in a row that show it
    seen: dict[Key, int] = field(default_factory=dict)
    behind: tuple[str, ...] = ()  # other gateways that have not shown it, in words
    measured: tuple[int, ...] = ()


class Prover:
    """Looks whether the traffic follows the routing, and says so where success is claimed.

    Args:
        parts: The gateway's.
        counted: What was answered.
        lease: Only who holds it claims and tells.
        teller: Opens incidents.
        stopping: Ends the loop.
        now: Seconds that only grow.
    """

    def __init__(
        self,
        parts: Parts,
        counted: Counted,
        lease: Lease,
        teller: Teller,
        stopping: threading.Event,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.now = now
        self._parts = parts
        self._counted = counted
        self._lease = lease
        self._teller = teller
        self._stopping = stopping
        self._courses = {model: _Course() for model in parts.watches}
        self._claimed: dict[str, int] = {}
        self._intents: dict[str, int] = {}
        self._faulty: dict[str, bool] = {}
        self._news = threading.Condition()
        self._thread = in_background(self._run, "prover")
        self.pointers: dict[str, int | None] = {}
        """Where each model's alias champion points, as custody last read it."""

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """End after the look under way."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    def agreement(self, model: str) -> Agreement | None:
        """Whether intent, pointer and traffic agree; None before the first routing."""
        course, split = self._courses[model], self._parts.fleet.get(model)
        if not course.generation or split is None:
            return None
        proven = self._parts.proven.get(model) == course.generation
        pointer = self.pointers.get(model)
        intent = self._intents[model]
        late = self._is_late(model)
        differs = TRAFFIC if late else "pointer" if pointer not in (None, intent) else ""
        state: Literal["proven", "waiting", "differs"] = (
            "differs" if late else "proven" if proven else "waiting"
        )
        return Agreement(course.generation, intent, pointer, course.measured, state, differs)

    def wait(self, routing: Routing, seconds: float = PATIENCE_SECONDS) -> None:
        """Return when the answers show a routing, or a later one.

        Raises:
            NotProven: they do not, in that time.
        """
        until = time.monotonic() + seconds
        with self._news:
            while self._parts.proven.get(routing.model, 0) < routing.generation:
                left = until - time.monotonic()
                if left <= 0 or self._stopping.is_set():
                    raise self._not_proven(routing)
                self._news.wait(min(left, EAGER_SECONDS))

    def look(self, model: str) -> None:
        """One look at a model: measure, compare, claim what is proven, tell what is not.

        Raises:
            Unavailable: the database is away: what is wanted is not known.
        """
        routing, digests = self._parts.intent(model)
        if routing is None:
            return
        course = self._courses[model]
        shown = self._measure(model, routing, digests)
        if shown and self._parts.shown.get(model) != routing.generation:
            self._parts.shown[model] = routing.generation
            self._parts.news.set()  # another gateway may be waiting for it
        course.behind = self._behind(routing)
        agrees = shown and not course.behind
        course.wrong = None if agrees else course.wrong or self.now()
        if agrees:
            with self._news:
                self._parts.proven[model] = routing.generation
                self._news.notify_all()
        if self._lease.held:
            self._claim(model, routing)
            self._tell(model, routing)

    def _measure(self, model: str, routing: Routing, digests: Mapping[int, str]) -> bool:
        """Whether the traffic of this gateway shows a routing now."""
        course, now = self._courses[model], self.now()
        self._intents[model] = routing.champion
        rows = self._counted.rows(model)
        new = {key: count - course.seen.get(key, 0) for key, count in rows.items()}
        new = {key: count for key, count in new.items() if count}
        course.seen = dict(rows)
        if routing.generation != course.generation:
            course.generation, course.since, course.streak = routing.generation, now, 0
            course.contrary = now
            course.wrong = now
        wanted = {routing.champion}
        if routing.phase == "canary" and routing.challenger is not None:
            wanted.add(routing.challenger)
        right = [
            (generation, version, digest)
            for generation, version, digest in new
            if generation == routing.generation
            and version in wanted
            and digests.get(version, digest) == digest
        ]
        if new:
            course.measured = tuple(sorted({version for _, version, _ in new}))
        if len(right) < len(new):
            course.contrary, course.streak = now, 0
        else:
            course.streak += sum(new[key] for key in right)
        ready = self._is_ready(model, routing)
        shown = course.streak >= ENOUGH_ROWS or now - course.contrary >= QUIET_SECONDS
        return ready and len(right) == len(new) and shown

    def _behind(self, routing: Routing) -> tuple[str, ...]:
        """The other live gateways that have not shown a routing, in words."""
        with self._parts.reading() as session:
            live = live_gateways(session, self._parts.clock())
        others = [one for one in live if one.id != self._parts.gateway_id]
        return tuple(
            f"{one.name}, which obeys generation {one.serving[routing.model]['generation']}"
            for one in behind(others, routing.model, routing.generation)
        )

    def _is_ready(self, model: str, routing: Routing) -> bool:
        """Whether what would answer next is what the routing says."""
        split = self._parts.fleet.get(model)
        return (
            split is not None
            and split.generation == routing.generation
            and split.champion.version == routing.champion
        )

    def _claim(self, model: str, routing: Routing) -> None:
        """Say that a proven routing answers, to on-call: once."""
        generation = routing.generation
        if self._parts.proven.get(model) != generation or self._claimed.get(model) == generation:
            return
        with self._lease.acting() as session:
            claim(session, routing, self._parts.policy(model).alerts, self._parts.clock())
        self._claimed[model] = generation

    def _tell(self, model: str, routing: Routing) -> None:
        late = self._is_late(model)
        self._parts.metrics.agrees.labels(model, TRAFFIC).set(0 if late else 1)
        if late == self._faulty.get(model):
            return
        faults = [self._fault(routing)] if late else []
        self._teller.stand(model, faults, {TRAFFIC})
        if late:
            logger.error("%s", faults[0].text)
            with self._lease.acting() as session:
                alerts = self._parts.policy(model).alerts
                tell_unproven(session, routing, faults[0].text, alerts, self._parts.clock())
        self._faulty[model] = late

    def _is_late(self, model: str) -> bool:
        """Whether another version has answered, or would, for longer than a swap takes.

        Before the first version is loaded nothing answers at all, which is no wrong answer: the
        gateway is not ready then, and says so.
        """
        wrong = self._courses[model].wrong
        loaded = self._parts.fleet.get(model) is not None
        return loaded and wrong is not None and self.now() - wrong > TELL_SECONDS

    def _fault(self, routing: Routing) -> Fault:
        return Fault(
            TRAFFIC,
            routing.champion,
            self._not_proven(routing).message,
            "page",
            "see the gateway's log for why it does not follow; a restart obeys the routing.",
        )

    def _not_proven(self, routing: Routing) -> NotProven:
        split, course = self._parts.fleet.get(routing.model), self._courses[routing.model]
        others = set(course.measured) - {routing.champion}
        if not others and split is not None:
            others = {split.champion.version} - {routing.champion}
        said = f"Routing {routing.generation} says that version {routing.champion} of"
        if course.behind and not others:
            text = (
                f"the answers of gateway {' and of gateway '.join(course.behind)}, do not show it."
            )
        else:
            named = " and ".join(str(version) for version in sorted(others)) or "none"
            text = f"the traffic does not follow: what answers is version {named}."
        return NotProven(
            f"{said} '{routing.model}' answers, but {text}",
            remedy="See the gateway's log; the routing stands, and is obeyed after a restart.",
            model=routing.model,
            generation=routing.generation,
            behind=list(course.behind),
        )

    def _run(self) -> None:
        troubled: set[str] = set()
        while not self._stopping.is_set():
            for model in self._courses:
                try:
                    self.look(model)
                    troubled.discard(model)
                except HomeostatError as error:
                    if model not in troubled:
                        logger.info("the traffic of %s is compared later: %s", model, error)
                    troubled.add(model)
                except Exception:
                    logger.exception("the traffic of %s could not be compared", model)
            eager = any(
                course.wrong is not None
                and self.now() - course.wrong < 2 * PATIENCE_SECONDS
                and course.generation
                for course in self._courses.values()
            )
            interval = self._parts.settings.poll_seconds
            self._parts.moved.wait(min(EAGER_SECONDS, interval) if eager else interval)
            self._parts.moved.clear()
