"""MLflow's aliases as this gateway reads, moves and remembers them.

Every move goes into the ledger: ours as they are made, a person's as they are seen. An alias of
MLflow has no version that a write could name, so each write here is preceded by a read: what
somebody moved in between is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from homeostat.errors import Unavailable
from registry.alias_moves import (
    AliasMove,
    alias_moves,
    known_aliases,
    last_mover,
    note_aliases,
    note_made,
)
from registry.promotion import wanted_aliases
from registry.routing import Routing, routing_history
from registry.versions import MlflowVersions
from serving.lease import Lease
from serving.moves import MLFLOW_ACTOR
from serving.parts import Parts

CHAMPION, CHALLENGER, STANDBY = "champion", "challenger", "standby"
ROLES = (CHAMPION, CHALLENGER, STANDBY)
HOMEOSTAT_ACTOR = "homeostat"
FOUND = "Found in MLflow as a routing had ordered it; who moved it was cut off before noting it."
NEWEST = 50  # routings among which one that ordered a move is looked for


class Pointers:
    """The aliases of the models.

    Args:
        parts: The gateway's.
        store: MLflow's registry.
        lease: Checked before an alias is written, which no transaction covers.
    """

    def __init__(self, parts: Parts, store: MlflowVersions, lease: Lease) -> None:
        self._parts = parts
        self._store = store
        self._lease = lease

    def read(self, model: str) -> dict[str, int] | None:
        """Every alias of a model; None where MLflow has no model of that name.

        Raises:
            Unavailable: MLflow is away.
        """
        try:
            seen = self._store.registered(model)
        except Unavailable:
            self._parts.metrics.part_up.labels("mlflow").set(0)
            raise
        self._parts.metrics.part_up.labels("mlflow").set(1)
        return seen

    def moved(self, model: str, seen: Mapping[str, int]) -> list[AliasMove]:
        """What was moved since the ledger looked last, not yet noted.

        Raises:
            Unavailable: the database is away.
        """
        with self._parts.reading() as session:
            return alias_moves(known_aliases(session, model), seen)

    def note_ours(self, model: str, moves: list[AliasMove]) -> list[AliasMove]:
        """Note those moves that are our own, though they were never noted, and leave the others.

        Who moves an alias notes it after; a gateway that is killed or cut off in between leaves
        its move unnoted. It is known by a routing that ordered it and was not written back.

        Returns:
            The others.

        Raises:
            Refused: the lease was lost.
            Unavailable: the database is away.
        """
        with self._parts.reading() as session:
            routings = routing_history(session, model, limit=NEWEST)
            made = {}
            for move in moves:
                last = last_mover(session, model, move.alias)
                since = 0 if last is None else last[1]
                orders = [wanted_aliases(one) for one in routings if one.generation >= since]
                if any(move.after == one.get(move.alias, move.before) for one in orders):
                    made[move.alias] = move.after
        if made:
            with self._lease.acting() as session:
                now = self._parts.clock()
                note_made(session, model, made, actor=HOMEOSTAT_ACTOR, reason=FOUND, at=now)
        return [one for one in moves if one.alias not in made]

    def note(self, model: str, seen: Mapping[str, int], actor: str, reason: str) -> None:
        """Write down where the aliases are.

        Raises:
            Refused: the lease was lost.
            Unavailable: the database is away.
        """
        with self._lease.acting() as session:
            now = self._parts.clock()
            note_aliases(session, model, seen, actor=actor, reason=reason, at=now)

    def check(self) -> None:
        """Refuse to write to MLflow without the lease.

        Raises:
            Refused: the lease was lost.
            Unavailable: the database is away.
        """
        self._lease.check()

    def move(self, model: str, targets: Mapping[str, int | None], reason: str) -> None:
        """Bring aliases where they belong, and note that it was us.

        Args:
            model: The registered model's name.
            targets: Alias to version; None takes the alias away.
            reason: Why, for the ledger.

        Raises:
            UnknownVersion: a version is not in MLflow; the aliases before it were moved.
            Refused: the lease was lost.
            Unavailable: MLflow or the database is away.
        """
        self._lease.check()
        made: dict[str, int | None] = {}
        try:
            for alias, version in targets.items():
                self._store.follow(model, {alias: version})
                made[alias] = version
        finally:
            if made:
                with self._lease.acting() as session:
                    now = self._parts.clock()
                    note_made(session, model, made, actor=HOMEOSTAT_ACTOR, reason=reason, at=now)

    def mover(self, model: str, alias: str) -> str:
        """Who moved an alias last, as far as the ledger knows.

        Raises:
            Unavailable: the database is away.
        """
        with self._parts.reading() as session:
            last = last_mover(session, model, alias)
        return MLFLOW_ACTOR if last is None else last[0]


def wanted(routing: Routing | None) -> dict[str, int | None]:
    """Where a routing wants the three aliases; nowhere before the first routing."""
    return dict.fromkeys(ROLES) if routing is None else wanted_aliases(routing)
