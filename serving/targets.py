"""Where traffic may go back to besides the standby: the newest version that does well now.

A standby answers unseen, so the guard knows label by label whether it would do better. Where there
is none, or where what happens now is what an older version had learnt, the versions that once had
all traffic are measured on the newest labelled rows, newest first: that takes seconds. A target has
*good evidence*: its mean loss there is no higher than where it was judged, but for what is not
worth an alarm. Where none has, a retrain or a person is what is left.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homeostat.errors import HomeostatError, NoTarget, StaleGeneration
from models.torch_learner import guarded
from monitoring.recovery import gained
from registry.claims import MITIGATES, UNDO, answered
from registry.incident_records import ASIDE, change_of
from registry.incidents import open_incidents
from registry.labels import LabelledRow, labelled_rows
from registry.permits import quarantined
from registry.promotion import rollback
from registry.release_history import Release, releases
from registry.routing import Routing, current_routing
from serving.advice import promote_command
from serving.detectors import loss_detector
from serving.lease import Acting
from serving.parts import Parts
from serving.runtime import Loaded
from serving.telling import Teller

ACTOR = "guard"
ROWS = 300  # the newest labelled ones that versions are measured on
LEAST = 50  # of them
OLDER = 5  # versions that are looked at
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=30), timedelta(hours=1)  # between two looks
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)

Losses = NDArray[np.float64]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """A version that does well on the newest labelled rows.

    Args:
        loaded: The version.
        rows: How many it was measured on.
        loss: Its mean loss there.
        bound: The mean loss up to which it does as well as where it was judged.
        champion_loss: The champion's on the same rows; 1 where it fails.
        better: Whether it loses less than the champion by more than chance.
    """

    loaded: Loaded
    rows: int
    loss: float
    bound: float
    champion_loss: float
    better: bool

    def said(self) -> str:
        """The evidence in a sentence."""
        return (
            f"Version {self.loaded.version} is the newest that does well on the newest {self.rows} "
            f"labelled rows: mean loss {self.loss:.3f}, of at most {self.bound:.3f}; the "
            f"champion's is {self.champion_loss:.3f}."
        )

    def figures(self) -> dict[str, Any]:
        """For the ledger."""
        names = ("rows", "loss", "bound", "champion_loss")
        return {"target": {name: getattr(self, name) for name in names}}


def find_target(parts: Parts, model: str, since: datetime, *, better: bool) -> Target | None:
    """The newest version with good evidence on the newest labelled rows, or None.

    Args:
        parts: The gateway's.
        model: The model's name.
        since: Only rows predicted from then on.
        better: Whether it has to do better than the champion, too.

    Raises:
        Unavailable: the database is away.
    """
    split = parts.fleet.get(model)
    if split is None:
        return None
    with parts.reading() as session:
        rows = labelled_rows(session, model, since, ROWS)
        if len(rows) < LEAST:
            return None
        once = [
            one
            for one in _once_champions(releases(session, model), split.champion.version)
            if not one.digest or quarantined(session, model, one.digest) is None
        ]
    theirs = _losses(split.champion, rows)
    for release in once[:OLDER]:
        target = _measure(parts, release, rows, theirs)
        if target is not None and (target.better or not better):
            return target
    return None


def go_back(
    parts: Parts,
    acting: Acting,
    target: Target,
    actor: str,
    reason: str,
    expected: int | None = None,
) -> Routing:
    """Give all traffic to a target, as a rollback does.

    Raises:
        StaleGeneration: another generation than `expected` serves.
        Unavailable: the database is away.
    """
    model, now = target.loaded.model, parts.clock()
    with acting() as session:
        before = current_routing(session, model)
        champion = before.champion if before is not None else 0
        evidence = {
            **target.figures(),
            MITIGATES: answered(session, model, champion),
            UNDO: promote_command(model, champion),
        }
        routing = rollback(
            session,
            model,
            actor,
            reason,
            evidence,
            now,
            expected,
            target=target.loaded.version,
            digest=target.loaded.digest,
        )
    parts.obey(routing, {target.loaded.version: target.loaded.digest})
    parts.metrics.rollbacks.labels(model).inc()
    parts.wake.set()
    return routing


class Targets:
    """Looks for a version to go back to when accuracy fell and no standby can take over.

    Args:
        parts: The gateway's.
        teller: Tells on-call.
        acting: Opens the transactions that write.
    """

    def __init__(self, parts: Parts, teller: Teller, acting: Acting) -> None:
        self._parts, self._teller, self._acting = parts, teller, acting
        self._due: dict[str, datetime] = {}
        self._waits: dict[tuple[str, int], timedelta] = {}  # by model and generation
        self._told: set[tuple[str, int, int]] = set()

    def run(self, model: str, routing: Routing) -> None:
        """One look, now and then, while losses stay above their reference.

        Raises:
            Refused: the lease was lost.
            Unavailable: the database is away; a later look finds the same.
        """
        parts, now = self._parts, self._parts.clock()
        mode = parts.policy(model).mode
        if not parts.watches[model].loss_drift or routing.challenger is not None:
            return
        if mode == "observe" or now < self._due.get(model, now):
            return
        key = (model, routing.generation)
        wait = self._waits.get(key, FIRST_WAIT)
        self._waits = {key: min(2 * wait, LONGEST_WAIT)} | {
            other: known for other, known in self._waits.items() if other[0] != model
        }
        self._due[model] = now + wait
        since = self._change(model, routing)
        target = find_target(parts, model, since, better=True) if since is not None else None
        if target is None or target.loaded.version == routing.standby:
            return  # the guard, label by label, is the judge of a standby
        if mode == "recommend":
            self._recommend(routing, target)
            return
        try:
            go_back(parts, self._acting, target, ACTOR, target.said(), routing.generation)
        except (StaleGeneration, NoTarget) as error:
            logger.info("%s does not go back: %s", model, error)

    def _change(self, model: str, routing: Routing) -> datetime | None:
        """When what is open about the champion's losses began."""
        with self._parts.reading() as session:
            about = [
                change_of(one)
                for one in open_incidents(session, model)
                if one.version == routing.champion and one.kind not in ASIDE
            ]
        return about[0] if about else None

    def _recommend(self, routing: Routing, target: Target) -> None:
        key = (routing.model, routing.generation, target.loaded.version)
        if key in self._told:
            return
        self._told.add(key)
        wish = promote_command(routing.model, target.loaded.version)
        step = f"it is left to you: {wish}"
        self._teller.tell(routing.model, routing.champion, target.said(), next_step=step)


def _once_champions(every: Sequence[Release], champion: int) -> Iterator[Release]:
    """The newest release of each version that once had all traffic, newest version first."""
    newest = {one.version: one for one in every if one.role == "champion"}
    newest.pop(champion, None)
    yield from (newest[version] for version in sorted(newest, reverse=True))


def _measure(
    parts: Parts, release: Release, rows: Sequence[LabelledRow], theirs: Losses
) -> Target | None:
    """How a version does on rows; None: not well, or it cannot be loaded."""
    policy = parts.policy(release.model)
    try:
        loaded = parts.library.load(release.model, release.version)
    except HomeostatError as error:
        logger.info("%s:%d is no target: %s", release.model, release.version, error)
        return None
    if release.digest and loaded.digest != release.digest:
        return None
    ours = _losses(loaded, rows)
    bound = loss_detector(loaded.profile, policy).unchanged
    if float(ours.mean()) > bound:
        return None
    better = gained(ours, theirs, policy.gates.error_rate / OLDER)
    return Target(loaded, len(rows), float(ours.mean()), bound, float(theirs.mean()), better)


def _losses(loaded: Loaded, rows: Sequence[LabelledRow]) -> Losses:
    """(N,) losses of a version on rows; 1 for each where it fails."""
    try:
        outputs = loaded.predict(loaded.encode([one.row for one in rows]))
        losses = guarded(loaded.learner.score, outputs, [one.value for one in rows])
    except HomeostatError as error:
        logger.info("%s:%d cannot be measured: %s", loaded.model, loaded.version, error)
        return np.ones(len(rows))
    found = np.asarray(losses, dtype=np.float64)
    return np.where(np.isfinite(found), found, 1.0)
