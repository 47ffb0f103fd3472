"""Detectors across restarts: saved every few seconds, and brought up to date from the log.

A saved state lacks the labels that came after it. They are in the database with the losses of
every version, so they are fed again: evidence on labels is the same after `kill -9` as before.
Rows that the input detector saw after the last save are not: there are seconds of them, and the
drift that they show goes on.
"""

from __future__ import annotations

import itertools
import logging
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from registry.evidence import detector_states, save_detector
from registry.losses import losses_labelled
from registry.release_history import releases
from serving.feedback import Feedback
from serving.fleet import Split
from serving.lease import Lease
from serving.parts import Parts
from serving.watch import GUARD, LabelledLoss

logger = logging.getLogger(__name__)

States = dict[tuple[int, str], str]  # as `Watch.states` gives them


class Keeper:
    """Saves and restores the detectors of a gateway.

    Args:
        parts: The gateway's.
        feedback: Feeds them; it pauses meanwhile, so that no label is lost or counted twice.
        lease: Of two gateways only the one that acts saves.
    """

    def __init__(self, parts: Parts, feedback: Feedback, lease: Lease) -> None:
        self._parts = parts
        self._feedback = feedback
        self._lease = lease
        self._started = parts.clock()
        self._restored: set[str] = set()

    def save(self) -> None:
        """Keep the state of every detector.

        Raises:
            Refused: the lease was lost.
            Unavailable: the database is away.
        """
        with self._feedback.paused():
            self._feedback.release()
            now = self._parts.clock()
            # Never over what was not yet read.
            states = {model: self._parts.watches[model].states() for model in self._restored}
        with self._lease.acting() as session:
            for model, found in states.items():
                for (version, name), state in found.items():
                    save_detector(session, model, version, name, state, now)

    def restore_all(self) -> None:
        """Restore every model that can be; called before the first label is taken.

        Raises:
            Unavailable: the database is away; the next call finds the same.
        """
        for model in self._parts.watches:
            self.restore(model)

    def restore(self, model: str) -> None:
        """Take up a model's detectors where an earlier process left them, once.

        Raises:
            Unavailable: the database is away; the next call finds the same.
        """
        split = self._parts.fleet.get(model)
        if split is None or model in self._restored:
            return
        with self._feedback.paused():
            if model in self._restored:  # by another thread, while this one waited
                return
            with self._parts.reading() as session:
                states, since = self._saved(session, split)
                calls = self._missed(session, split, since) if since is not None else []
            self._parts.watches[model].restore(states)
            self._feedback.replay(model, calls)
            self._restored.add(model)
        if states or calls:
            count = sum(len(rows) for rows in calls)
            logger.info("the detectors of %s go on, with %d labels since", model, count)

    def _saved(self, session: Session, split: Split) -> tuple[States, datetime | None]:
        """The states that are of the roles as they stand, and when the champion's were saved.

        A version that serves for the second time is watched anew: what was saved in its first
        time is over. Without a state it is when the champion's time began.
        """
        began = {
            one.role: one.from_at for one in releases(session, split.model) if one.to_at is None
        }
        since = began.get("champion")
        if since is None or since > self._started:  # its time began under these very detectors
            return {}, None
        states: States = {}
        for one in detector_states(session, split.model, split.champion.version, since):
            if one.detector.startswith(GUARD) and one.at < began.get("standby", since):
                continue
            states[split.champion.version, one.detector] = str(one.state)
            since = max(since, one.at)
        if split.challenger is not None:
            version, start = split.challenger.version, began.get("challenger")
            for one in detector_states(session, split.model, version, start):
                states[version, one.detector] = str(one.state)
        return states, since

    def _missed(self, session: Session, split: Split, since: datetime) -> list[list[LabelledLoss]]:
        """Losses that states saved at `since` lack, call by call: labelled later, or held then."""
        delay = self._parts.policy(split.model).monitor.label_delay_seconds
        points = losses_labelled(
            session, split.model, split.champion.version, since, held=timedelta(seconds=delay)
        )
        calls = []
        for _, call in itertools.groupby(points, key=lambda point: point.labelled_at):
            rows = []
            for _, own in itertools.groupby(call, key=lambda point: point.prediction_id):
                every = list(own)
                losses = {point.version: point.loss for point in every}
                rows.append(LabelledLoss(every[0].at, losses))
            calls.append(rows)
        return calls
