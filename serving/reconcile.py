"""MLflow's aliases and the routing, brought to agree.

An alias is the human face of the routing. Where the two differ, either the routing moved and the
alias has to follow, or somebody moved the alias, which is a request. Which of the two it is, is
known from whether this routing was ever written back (the champion then carries its generation
as a tag) and from the ledger, which has every alias where it was seen last. Polling is the
truth; nothing is told, everything is read.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from homeostat.errors import UnknownVersion
from monitoring.signals import triage
from registry.alias_moves import AliasMove, last_mover
from registry.routing import Routing, routing_before
from registry.versions import MlflowVersions
from serving.asked import Asked, Wish
from serving.lease import Lease
from serving.moves import MLFLOW_ACTOR, Moves
from serving.parts import Parts
from serving.pointers import CHALLENGER, CHAMPION, HOMEOSTAT_ACTOR, ROLES, STANDBY, Pointers
from serving.telling import Teller, registry_signal
from serving.writeback import Writeback

QUIET_SECONDS = 0.3  # an edit on MLflow's page is several calls
NEAR_MISSES = frozenset(
    {"prod", "production", "live", "main", "stable", "staging", "candidate", "canary", "shadow"}
)
SEEN = "Seen in MLflow."

logger = logging.getLogger(__name__)


class Reconciler:
    """Sees alias moves, has them answered, and brings aliases and tags after the routing.

    Args:
        parts: The gateway's.
        moves: Changes the routing.
        teller: Opens incidents.
        store: MLflow's registry.
        lease: Checked before an alias is written, which no transaction covers.
        stopping: Ends a wait for quiet early.
    """

    def __init__(
        self,
        parts: Parts,
        moves: Moves,
        teller: Teller,
        store: MlflowVersions,
        lease: Lease,
        stopping: threading.Event,
    ) -> None:
        self._parts = parts
        self._teller = teller
        self._stopping = stopping
        self._writeback = Writeback(store, parts.settings.page_address)
        self._pointers = Pointers(parts, store, lease)
        self._asked = Asked(parts, moves, teller, store, self._writeback, self._pointers)
        self._settled: dict[str, int] = {}  # generation whose aliases and tags are written
        self._standing: dict[str, list[Wish]] = {}  # answered, and not to be answered again

    def run(self, model: str) -> None:
        """One look at a model; does what is needed and no more.

        Raises:
            Unavailable: MLflow or the database is away; the next look finds the same.
        """
        seen = self._pointers.read(model)
        if seen is None:  # no model of that name: custody tells of one that was there
            return
        routing = self._parts.follow(model)
        moves = self._pointers.moved(model, seen)
        if moves and routing is not None and not self._is_settled(routing):
            moves = self._pointers.note_ours(model, moves)
        if moves:
            self._tell_near_misses(model, moves)
            self._pointers.note(model, seen, MLFLOW_ACTOR, SEEN)
        if routing is not None and not self._is_settled(routing):
            # MLflow's page says that a version serves once its answers show it.
            if self._parts.proven.get(model) == routing.generation:
                self._settle(routing, seen)
            return
        wishes = self._asked.wishes(model, seen, routing)
        standing = [wish for wish in self._standing.get(model, []) if wish in wishes]
        new = [wish for wish in wishes if wish not in standing]
        if new and self._is_quiet(model, seen):
            if self._asked.answer(new[0], routing):
                standing.append(new[0])
            self._parts.wake.set()  # the other wishes, or what this one led to
        self._standing[model] = standing

    def _is_quiet(self, model: str, seen: Mapping[str, int]) -> bool:
        """Whether nobody is in the middle of an edit."""
        self._stopping.wait(QUIET_SECONDS)
        return not self._stopping.is_set() and self._pointers.read(model) == seen

    def _is_settled(self, routing: Routing) -> bool:
        if self._settled.get(routing.model) == routing.generation:
            return True
        if not self._writeback.is_written(routing):
            return False
        self._settled[routing.model] = routing.generation
        return True

    def _settle(self, routing: Routing, seen: Mapping[str, int]) -> None:
        """The routing moved: aliases and tags follow, but for an alias that a person moved."""
        model = routing.model
        with self._parts.reading() as session:
            before = routing_before(session, routing)
        targets: dict[str, int | None] = {}
        if self._asked_since(routing, before, seen):
            self._tell_conflict(routing, seen[CHAMPION])
        else:
            targets[CHAMPION] = routing.champion
        targets[STANDBY] = routing.standby
        ours = before.challenger if before is not None else None
        asked = seen.get(CHALLENGER)
        if routing.challenger is None and asked in (ours, routing.champion):
            targets[CHALLENGER] = None  # another one is somebody's new request
        elif routing.challenger not in (None, ours) and asked in (ours, None):
            targets[CHALLENGER] = routing.challenger  # begun by command
        targets = {one: there for one, there in targets.items() if seen.get(one) != there}
        if self._pointers.read(model) != seen:
            return  # somebody is moving them just now: the next look sees what became of it
        why = f"Follows routing {routing.generation}: {routing.reason}"
        try:
            self._pointers.move(model, targets, why)
            self._writeback.write(routing, before)
        except UnknownVersion as error:
            logger.warning("%s", error)  # it serves on from the copy here, and custody tells of it
        self._settled[model] = routing.generation
        self._parts.wake.set()

    def _asked_since(
        self, routing: Routing, before: Routing | None, seen: Mapping[str, int]
    ) -> bool:
        """Whether a person moved the champion alias while this routing was not written back."""
        there = seen.get(CHAMPION)
        if there is None or there == routing.champion:
            return False
        with self._parts.reading() as session:
            last = last_mover(session, routing.model, CHAMPION)
        if last is not None and last[0] == HOMEOSTAT_ACTOR:
            return False  # where an earlier routing of ours had it
        if before is not None and there != before.champion:
            return True  # where no routing of ours had it
        return last is not None and last[0] == MLFLOW_ACTOR and last[1] >= routing.generation

    def _tell_conflict(self, routing: Routing, version: int) -> None:
        text = (
            f"The alias champion was moved to version {version} while routing "
            f"{routing.generation} (champion {routing.champion}) was to be written to it."
        )
        done = "The alias was left to the person who moved it; it is answered as a request."
        self._tell_on_call(routing.model, version, text, severity="page", done=done)

    def _tell_near_misses(self, model: str, moves: list[AliasMove]) -> None:
        """A name that is nearly right moves nothing, and whoever set it is told so there."""
        for move in moves:
            if move.alias in ROLES or move.alias.lower() not in NEAR_MISSES.union(ROLES):
                continue
            if move.before is not None:
                self._writeback.notice(model, move.before, "")
            if move.after is not None:
                known = f"only {CHAMPION} and {CHALLENGER} do, in small letters."
                text = f"The alias '{move.alias}' moves no traffic: {known}"
                self._writeback.notice(model, move.after, text)
                self._tell_on_call(model, move.after, text, done="No traffic was moved.")

    def _tell_on_call(
        self, model: str, version: int, text: str, *, severity: str = "ticket", done: str
    ) -> None:
        signal = registry_signal("reconciler", text, severity=severity)
        self._teller.open(model, version, signal, triage(signal), next_step="nothing.", done=done)
