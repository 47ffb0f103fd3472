"""Detectors across restarts: saved every few seconds, and brought up to date from the log.

With the states is saved which labels and which input counts they had seen. What came since,
whichever gateway took it, is in the database and is fed from there: evidence is the same after
`kill -9` as before, and nothing counts twice. Only what a killed gateway answered after its last
message (`serving.gathering`) is no evidence on inputs.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy.orm import Session

from registry.evidence import detector_states, save_detector
from registry.gateways import forget_gateways
from registry.input_counts import forget_counts, seen_counts
from registry.losses import LossCall, loss_calls
from registry.release_history import Release, Role, releases
from serving.detectors import GUARD
from serving.feedback import Feedback
from serving.fleet import Split
from serving.gathering import Gathering
from serving.lease import Lease
from serving.maturing import Place
from serving.parts import Parts
from serving.runtime import Loaded

logger = logging.getLogger(__name__)

States = dict[tuple[int, str], str]  # as `Watch.states` gives them
PLACE = "labels"  # the name under which the place is saved


class Keeper:
    """Saves and restores the detectors of a gateway.

    Args:
        parts: The gateway's.
        feedback: Feeds them; it pauses meanwhile, so that no label is lost or counted twice.
        gathering: Feeds those of inputs, and pauses as well.
        lease: Of several gateways only the one that acts saves.
    """

    def __init__(
        self, parts: Parts, feedback: Feedback, gathering: Gathering, lease: Lease
    ) -> None:
        self._parts = parts
        self._feedback = feedback
        self._gathering = gathering
        self._lease = lease

    def save(self) -> None:
        """Keep the state of every detector.

        Raises:
            Refused: the lease was lost.
            Unavailable: the database is away.
        """
        with self._feedback.paused(), self._gathering.paused():
            self._feedback.following.catch_up()
            now = self._parts.clock()
            states = {model: self._states(model) for model in self._parts.watches}
            seen = {model: self._gathering.place(model) or 0 for model in states if states[model]}
        with self._lease.acting() as session:
            for model, found in states.items():
                for (version, name), state in found.items():
                    save_detector(session, model, version, name, state, now)
            for model, number in seen.items():
                forget_counts(session, model, number, now)
            forget_gateways(session, now)

    def restore_all(self) -> None:
        """Restore every model that can be; called before the first label is taken.

        Raises:
            Unavailable: the database is away; the next call finds the same.
        """
        for model in self._parts.watches:
            self.restore(model)

    def restore(self, model: str) -> None:
        """Take up a model's detectors where a gateway left them.

        Once, and again when a routing was passed over: when the roles began, and so which labels
        are evidence on them, is then known to the database alone.

        Raises:
            Unavailable: the database is away; the next call finds the same.
        """
        split, watch = self._parts.fleet.get(model), self._parts.watches[model]
        if split is None or (
            self._feedback.following.place(model) is not None and not watch.skipped
        ):
            return
        with self._feedback.paused(), self._gathering.paused():
            known = self._feedback.following.place(model)
            if known is not None and not watch.skipped:  # by another thread, while this one waited
                return
            with self._parts.reading() as session:
                began = {one.role: one for one in releases(session, model) if one.to_at is None}
                if not _are_of(split, began):
                    return  # the routing has moved on: it is followed first
                states, place, inputs = _saved(session, split, began)
                held = _held(session, model, place)
                self._gathering.resume(session, model, inputs)
                lately = seen_counts(session, model, self._gathering.place(model) or 0)
            watch.restore(states, {role: one.generation for role, one in began.items()})
            for one in lately:
                watch.see(one, again=True)
            self._feedback.following.resume(model, place, held)
        logger.info("the detectors of %s go on after the labels %d", model, place.call)

    def _states(self, model: str) -> States:
        place, states = self._feedback.following.place(model), self._parts.watches[model].states()
        split = self._parts.fleet.get(model)
        if place is None or split is None or self._parts.watches[model].skipped:
            return {}  # never over what was not yet read
        until = place.until.isoformat() if place.until else None
        inputs = self._gathering.place(model) or 0
        states[split.champion.version, PLACE] = json.dumps(
            {"call": place.call, "until": until, "inputs": inputs}
        )
        return states


def _are_of(split: Split, began: Mapping[Role, Release]) -> bool:
    """Whether the open releases are of the versions that have the roles here."""
    roles: tuple[tuple[Role, Loaded | None], ...] = (
        ("champion", split.champion),
        ("challenger", split.challenger),
        ("standby", split.standby),
    )
    return all(
        one is None or (role in began and began[role].version == one.version) for role, one in roles
    )


def _saved(
    session: Session, split: Split, began: Mapping[Role, Release]
) -> tuple[States, Place, int]:
    """The states that are of the roles as they stand, and how far they had come.

    A version that serves for the second time is watched anew: what was saved in its first time is
    over. Without a state nothing has been seen.
    """
    version, since = split.champion.version, began["champion"].from_at
    states: States = {}
    place, inputs = Place(0), 0
    for one in detector_states(session, split.model, version, since):
        if one.detector == PLACE:
            place, inputs = _read_place(str(one.state))
        elif not one.detector.startswith(GUARD) or (
            "standby" in began and one.at >= began["standby"].from_at
        ):
            states[version, one.detector] = str(one.state)
    if split.challenger is not None:
        version, start = split.challenger.version, began["challenger"].from_at
        for one in detector_states(session, split.model, version, start):
            states[version, one.detector] = str(one.state)
    return states, place, inputs


def _read_place(text: str) -> tuple[Place, int]:
    data = json.loads(text)
    until = data["until"]
    place = Place(int(data["call"]), datetime.fromisoformat(until) if until else None)
    return place, int(data.get("inputs", 0))


def _held(session: Session, model: str, place: Place) -> list[LossCall]:
    """Losses of calls that were taken in, but waited for the age of their predictions."""
    if place.until is None:
        return []
    return loss_calls(session, model, 0, until=place.call, younger=place.until)
