"""MLflow's aliases and the routing, brought to agree.

An alias is the human face of the routing. Where the two differ, either the routing moved and the
alias has to follow, or somebody moved the alias, which is a request. Which of the two it is, is
known from whether this routing was ever written back: the champion then carries its generation
as a tag. Polling is the truth; nothing is told, everything is read.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from homeostat.errors import HomeostatError, StaleGeneration, Unavailable, UnknownVersion
from monitoring.signals import triage
from registry.promotion import wanted_aliases
from registry.routing import Routing, routing_history
from registry.versions import MlflowVersions
from serving.advice import promote_command, rollback_command
from serving.lease import Lease
from serving.moves import MLFLOW_ACTOR, Moves
from serving.parts import Parts
from serving.telling import Teller, registry_signal
from serving.writeback import Writeback

CHAMPION, CHALLENGER, STANDBY = "champion", "challenger", "standby"
QUIET_SECONDS = 0.3  # an edit on MLflow's page is several calls
NEAR_MISSES = frozenset(
    {"prod", "production", "live", "main", "stable", "staging", "candidate", "canary", "shadow"}
)
ROLES = frozenset({CHAMPION, CHALLENGER, STANDBY})

logger = logging.getLogger(__name__)


class Reconciler:
    """Answers alias moves, and writes back what became of them.

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
        self._lease = lease
        self._moves = moves
        self._teller = teller
        self._store = store
        self._stopping = stopping
        self._writeback = Writeback(store)
        self._settled: dict[str, int] = {}  # generation whose aliases and tags are written
        self._put_back: set[tuple[str, str, int]] = set()
        self._told: set[tuple[str, str]] = set()

    def run(self, model: str) -> None:
        """One look at a model; does what is needed and no more.

        Raises:
            Unavailable: MLflow or the database is away; the next look finds the same.
        """
        aliases = self._read(model)
        if aliases is None:  # no model of that name: custody tells of one that was there
            return
        self._tell_near_misses(model, aliases)
        routing = self._parts.follow(model)
        if routing is None:
            if CHAMPION in aliases and self._quiet(model, aliases):
                self._consider_champion(model, aliases[CHAMPION], None)
            return
        if not self._is_settled(routing):
            if not self._follows(routing, aliases):
                self._settle(routing, aliases)
                return
            self._settled[model] = routing.generation
        if self._differs(aliases, routing) and self._quiet(model, aliases):
            self._answer(routing, aliases)

    def _read(self, model: str) -> dict[str, int] | None:
        try:
            aliases = self._store.registered(model)
        except Unavailable:
            self._parts.metrics.part_up.labels("mlflow").set(0)
            raise
        self._parts.metrics.part_up.labels("mlflow").set(1)
        return aliases

    def _quiet(self, model: str, aliases: Mapping[str, int]) -> bool:
        """Whether nobody is in the middle of an edit."""
        self._stopping.wait(QUIET_SECONDS)
        return self._read(model) == aliases

    @staticmethod
    def _differs(aliases: Mapping[str, int], routing: Routing) -> bool:
        return (
            aliases.get(CHAMPION) != routing.champion
            or aliases.get(CHALLENGER) != routing.challenger
        )

    # The routing moved: the aliases follow.

    def _is_settled(self, routing: Routing) -> bool:
        if self._settled.get(routing.model) == routing.generation:
            return True
        if not self._writeback.is_written(routing):
            return False
        self._settled[routing.model] = routing.generation
        return True

    def _follows(self, routing: Routing, aliases: Mapping[str, int]) -> bool:
        """Whether somebody moved the champion alias to where no routing of ours had it."""
        seen = aliases.get(CHAMPION)
        if seen is None or seen == routing.champion:
            return False
        before = self._before(routing)
        if before is not None and before.champion == seen:
            return routing.actor == MLFLOW_ACTOR  # then it was at the champion already
        if before is not None:
            logger.warning(
                "the champion alias of %s was moved to %d while ours was to be written",
                routing.model,
                seen,
            )
        return before is not None

    def _before(self, routing: Routing) -> Routing | None:
        with self._parts.reading() as session:
            history = routing_history(session, routing.model)
        return next((r for r in reversed(history) if r.generation < routing.generation), None)

    def _settle(self, routing: Routing, aliases: Mapping[str, int]) -> None:
        model = routing.model
        self._lease.check()
        before = self._before(routing)
        wanted: dict[str, int | None] = {CHAMPION: None, STANDBY: None}
        wanted |= {role: v for role, v in wanted_aliases(routing).items() if role != CHALLENGER}
        asked = aliases.get(CHALLENGER)
        ours = before.challenger if before is not None else None
        if asked is not None and routing.challenger is None and asked in (ours, routing.champion):
            wanted[CHALLENGER] = None
        try:
            self._store.follow(model, wanted)
            self._writeback.write(routing, before)
        except UnknownVersion as error:
            self._tell(
                model,
                routing.champion,
                f"A version that serves is gone from MLflow: {error.message} It serves on from "
                "the copy on disk.",
                severity="page",
            )
        self._settled[model] = routing.generation

    # An alias moved: it is a request.

    def _answer(self, routing: Routing, aliases: Mapping[str, int]) -> None:
        model = routing.model
        champion = aliases.get(CHAMPION)
        if champion is None:
            self._restore(routing, CHAMPION, routing.champion, "The alias champion was taken away.")
        elif champion != routing.champion:
            self._consider_champion(model, champion, routing)
            return
        challenger = aliases.get(CHALLENGER)
        if challenger == routing.challenger:
            return
        if challenger is None:
            assert routing.challenger is not None
            if not self._store.exists(model, routing.challenger):  # not the alias: its version
                return  # the trial goes on from the copy here, and custody tells of it
            reason = "Somebody took the alias challenger away."
            self._moves.abort_trial(routing, MLFLOW_ACTOR, reason, {}, bar=False)
        elif challenger == routing.champion:
            self._lease.check()
            self._store.delete_alias(model, CHALLENGER)
        else:
            self._consider_challenger(model, challenger, routing)

    def _consider_champion(self, model: str, version: int, routing: Routing | None) -> None:
        try:
            loaded = self._moves.prepare(model, version)
            decision = self._moves.judge(loaded)
        except Unavailable:
            raise
        except HomeostatError as error:
            self._refuse(model, CHAMPION, version, routing, str(error))
            return
        if decision.action == "restore":
            self._refuse(model, CHAMPION, version, routing, decision.reason)
            return
        reason = f"The alias champion was moved to it in MLflow. {decision.reason}"
        try:
            self._moves.accept(loaded, routing, decision, MLFLOW_ACTOR, reason)
        except StaleGeneration as error:
            logger.info("%s: %s", model, error)
            return
        self._put_back.clear()
        if decision.warn:
            self._tell(
                model,
                version,
                f"It serves without a passing verdict. {decision.reason}",
                next_step="labels will judge it; this takes it back at once: "
                f"{rollback_command(model)}",
            )

    def _consider_challenger(self, model: str, version: int, routing: Routing) -> None:
        try:
            loaded = self._moves.prepare(model, version)
            decision = self._moves.judge(loaded)
        except Unavailable:
            raise
        except HomeostatError as error:
            self._refuse(model, CHALLENGER, version, routing, str(error))
            return
        if decision.action == "restore":
            self._refuse(model, CHALLENGER, version, routing, decision.reason)
            return
        try:
            self._moves.start_trial(loaded, routing, f"On trial. {decision.reason}")
        except StaleGeneration as error:
            logger.info("%s: %s", model, error)

    def _refuse(
        self, model: str, alias: str, version: int, routing: Routing | None, reason: str
    ) -> None:
        """Leave the traffic, put the alias back once, and say why where the person looks."""
        key = (model, alias, version)
        leave = promote_command(model, version, override=True)
        if key in self._put_back:  # moved again: hold and page rather than fight
            text = f"The alias {alias} was moved to version {version} again. {reason}"
            step = f"the alias stands, the traffic stays; to let it pass: {leave}"
            self._tell(model, version, text, severity="page", next_step=step)
            return
        self._lease.check()
        self._put_back.add(key)
        remedy = "An override with a reason and an expiry lets it pass."
        now = self._parts.clock()
        self._writeback.tag(model, version, "rejected", f"{reason} {remedy}", now)
        text = f"Version {version} may not be {alias}. {reason}"
        present = routing.champion if routing is not None and alias == CHAMPION else None
        if present is not None:
            self._store.set_alias(model, alias, present)
        else:
            self._store.delete_alias(model, alias)
        done = "The alias was put back; the traffic did not move."
        self._tell(
            model, version, text, done=done, next_step=f"nothing, or to let it pass: {leave}"
        )

    def _restore(self, routing: Routing, alias: str, version: int, text: str) -> None:
        self._lease.check()
        try:
            self._store.set_alias(routing.model, alias, version)
        except UnknownVersion:
            gone = f"{text} Version {version} is gone from MLflow; it serves on from the copy here."
            self._tell(routing.model, version, gone, severity="page")
            return
        done = "The alias was put back; the traffic did not move."
        self._tell(routing.model, version, text, done=done, next_step="nothing.")

    def _tell_near_misses(self, model: str, aliases: Mapping[str, int]) -> None:
        for alias in aliases:
            near = alias.lower() in ROLES | NEAR_MISSES and alias not in ROLES
            if near and (model, alias) not in self._told:
                self._told.add((model, alias))
                logger.warning(
                    "the alias '%s' of %s moves no traffic: only %s do",
                    alias,
                    model,
                    ", ".join(sorted(ROLES - {STANDBY})),
                )

    def _tell(
        self,
        model: str,
        version: int,
        text: str,
        *,
        severity: str = "ticket",
        done: str = "",
        next_step: str = "",
    ) -> None:
        """Open a registry incident, once for each text; `done` says how its harm ended."""
        if (model, text) in self._told and not done:
            return
        self._told.add((model, text))
        signal = registry_signal("reconciler", text, severity=severity)
        verdict = triage(signal)
        self._teller.open(model, version, signal, verdict, next_step=next_step, done=done)
