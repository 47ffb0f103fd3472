"""What a person asks by moving an alias on MLflow's page, and the answer to it.

Each move is one wish: judged, then granted, refused or left as it stands. Who moves an alias past
the gates finds it put back once; moved there again it is left, and on-call is paged: nobody wins
by fighting. The ledger counts the moves, so a restart forgets none.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from homeostat.errors import HomeostatError, StaleGeneration, Unavailable, UnknownVersion
from monitoring.signals import triage
from registry.alias_moves import times_moved
from registry.permits import quarantined
from registry.promotion import Decision
from registry.release_history import find_release
from registry.routing import Routing
from registry.versions import MlflowVersions
from serving.advice import promote_command, rollback_command
from serving.moves import MLFLOW_ACTOR, Moves
from serving.parts import Parts
from serving.pointers import CHALLENGER, CHAMPION, STANDBY, Pointers, wanted
from serving.telling import Teller, registry_signal
from serving.writeback import Outcome, Writeback

ALONE = "No version answers yet, so there is nothing to try it against: set champion first."
STANDS = "The alias stands where it was put; the traffic stays where it was."
PUT_BACK = "The alias was put back; the traffic did not move."

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wish:
    """An alias that is not where the routing wants it.

    Args:
        model: The registered model's name.
        alias: `champion`, `challenger` or `standby`.
        version: Where it is; None: it was taken away.
        wanted: Where the routing wants it; None: nowhere.
        generation: Of that routing; 0 before the first.
        digest: Of the version's artifact; empty where nobody told it.
        decision: What gates, overrides and quarantine say, of a version that asks for traffic.
    """

    model: str
    alias: str
    version: int | None
    wanted: int | None
    generation: int
    digest: str = ""
    decision: Decision | None = None


class Asked:
    """Answers wishes.

    Args:
        parts: The gateway's.
        moves: Changes the routing.
        teller: Opens incidents.
        store: MLflow's registry.
        writeback: Tells the person on MLflow's page.
        pointers: Moves aliases.
    """

    def __init__(
        self,
        parts: Parts,
        moves: Moves,
        teller: Teller,
        store: MlflowVersions,
        writeback: Writeback,
        pointers: Pointers,
    ) -> None:
        self._parts = parts
        self._moves = moves
        self._teller = teller
        self._store = store
        self._writeback = writeback
        self._pointers = pointers

    def wishes(self, model: str, seen: Mapping[str, int], routing: Routing | None) -> list[Wish]:
        """Every wish about a model, the champion's first.

        Raises:
            Unavailable: MLflow or the database is away.
        """
        wishes = []
        for alias, there in wanted(routing).items():
            version = seen.get(alias)
            if version == there:
                continue
            generation = routing.generation if routing is not None else 0
            wish = Wish(model, alias, version, there, generation)
            champion = routing.champion if routing is not None else None
            if version is None or alias == STANDBY or (alias, version) == (CHALLENGER, champion):
                wishes.append(wish)
            else:
                wishes.append(self._judged(wish, version))
        return wishes

    def answer(self, wish: Wish, routing: Routing | None) -> bool:
        """Answer one wish; whether the alias then stands as it is, and need not be answered again.

        Raises:
            Unavailable: MLflow or the database is away; the next look finds the same wish.
        """
        if wish.version is None:
            return self._missing(wish, routing)
        if wish.alias == STANDBY:
            text = "The alias standby is not asked for: it follows the champion before."
            return self._refuse(wish, wish.version, routing, text, explain=True)
        if wish.decision is None:
            text = "It is champion already, so it is not tried against itself."
            return self._refuse(wish, wish.version, routing, text, explain=True)
        if wish.alias == CHALLENGER and routing is None:
            self._tell_person(wish, wish.version, "waiting", ALONE)
            return True
        if wish.decision.action == "restore":
            return self._refuse(wish, wish.version, routing, wish.decision.reason)
        return self._grant(wish, wish.version, routing, wish.decision)

    def _judged(self, wish: Wish, version: int) -> Wish:
        digest = ""
        try:
            digest = self._store.digest(wish.model, version)
            decision = self._moves.judge(wish.model, version, digest)
        except Unavailable:
            raise
        except HomeostatError as error:
            decision = Decision("restore", str(error))
        return Wish(wish.model, wish.alias, version, wish.wanted, wish.generation, digest, decision)

    def _grant(self, wish: Wish, version: int, routing: Routing | None, decision: Decision) -> bool:
        model = wish.model
        self._tell_person(wish, version, "loading", f"Asked for by the alias {wish.alias}.")
        try:
            loaded = self._moves.prepare(model, version)
        except Unavailable:
            raise
        except HomeostatError as error:
            return self._refuse(wish, version, routing, str(error))
        actor = self._pointers.mover(model, wish.alias)
        by = "" if actor == MLFLOW_ACTOR else f" by {actor}"
        reason = f"The alias {wish.alias} was set to it in MLflow{by}. {decision.reason}"
        try:
            if wish.alias == CHALLENGER and routing is not None:
                self._moves.start_trial(loaded, routing, actor, reason)
                return False
            self._moves.accept(loaded, routing, decision, actor, reason)
        except StaleGeneration as error:  # the next look reads what the winner wrote
            logger.info("%s: %s", model, error)
            return False
        if decision.warn:
            self._tell_on_call(
                model,
                version,
                f"It serves without a passing verdict. {decision.reason}",
                next_step="labels will judge it; this takes it back at once: "
                f"{rollback_command(model)}",
            )
        return False

    def _refuse(
        self,
        wish: Wish,
        version: int,
        routing: Routing | None,
        reason: str,
        *,
        explain: bool = False,
    ) -> bool:
        """Leave the traffic, put the alias back once, and say why where the person looks."""
        model, alias = wish.model, wish.alias
        again = self._moved(wish, routing) > 1
        what = f"Version {version} may not be {alias}. {reason}"
        leave = f"to let it pass: {promote_command(model, version, override=True)}"
        self._pointers.check()
        if again:
            self._tell_person(wish, version, "rejected", f"{reason} {STANDS}", explain=explain)
            severity = "ticket" if explain else "page"
            self._tell_on_call(
                model,
                version,
                f"The alias {alias} was moved to version {version} again. {reason}",
                severity=severity,
                next_step=f"the alias stands, the traffic stays; {leave}",
            )
            return True
        told = reason if explain else f"{reason} An override with a reason lets it pass."
        self._tell_person(wish, version, "rejected", f"{told} {PUT_BACK}", explain=explain)
        if not self._put_back(wish, what):
            return True
        step = "nothing." if explain else f"nothing, or {leave}"
        self._tell_on_call(model, version, what, done=PUT_BACK, next_step=step)
        return False

    def _missing(self, wish: Wish, routing: Routing | None) -> bool:
        """An alias of ours that somebody took away, or that went with its version."""
        model, version = wish.model, wish.wanted
        assert version is not None  # else nothing would be missing
        assert routing is not None
        if not self._store.exists(model, version):
            return True  # it serves on from the copy here, and custody tells of it
        if wish.alias == CHALLENGER:
            reason = "Somebody took the alias challenger away in MLflow."
            try:
                self._moves.abort_trial(routing, MLFLOW_ACTOR, reason, {}, bar=False)
            except StaleGeneration as error:
                logger.info("%s: %s", model, error)
            return False
        text = f"The alias {wish.alias} of version {version} was taken away."
        again = self._moved(wish, routing) > 1
        if not self._put_back(wish, text):
            return True
        severity = "page" if again and wish.alias == CHAMPION else "ticket"
        step = "find out who or what takes it away." if again else "nothing."
        self._tell_on_call(model, version, text, severity=severity, done=PUT_BACK, next_step=step)
        return False

    def _put_back(self, wish: Wish, reason: str) -> bool:
        """Whether the alias is where the routing wants it; not so if that version is gone."""
        try:
            self._pointers.move(wish.model, {wish.alias: wish.wanted}, reason)
        except UnknownVersion:
            return False
        return True

    def _moved(self, wish: Wish, routing: Routing | None) -> int:
        """How often a person made this wish since the champion took the traffic."""
        with self._parts.reading() as session:
            release = None
            if routing is not None:
                release = find_release(session, wish.model, routing.champion)
            since = release.generation if release is not None else 0
            return times_moved(session, wish.model, wish.alias, wish.version, MLFLOW_ACTOR, since)

    def _tell_person(
        self, wish: Wish, version: int, state: str, reason: str, *, explain: bool = False
    ) -> None:
        if state == "rejected" and wish.digest:
            with self._parts.reading() as session:
                if quarantined(session, wish.model, wish.digest) is not None:
                    state = "quarantined"
        outcome = Outcome(state, reason, self._parts.clock(), wish.generation)
        say = self._writeback.explain if explain else self._writeback.tell
        say(wish.model, version, outcome)

    def _tell_on_call(
        self,
        model: str,
        version: int,
        text: str,
        *,
        severity: str = "ticket",
        done: str = "",
        next_step: str,
    ) -> None:
        signal = registry_signal("reconciler", text, severity=severity)
        self._teller.open(model, version, signal, triage(signal), next_step=next_step, done=done)
