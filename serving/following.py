"""The detectors of losses follow the labels that all gateways of one database take.

Every gateway feeds its detectors with every call of labels once, in the order of the calls'
numbers, whichever gateway took the labels: its own at once, and those of others, read from the
database, before them. So the detectors of losses are the same on all gateways, and the one that
takes the deciding label decides.

Within that the detectors see labels in the order of their predictions, behind a frontier (that of
`serving.frontier`, or what `monitor.label_delay_seconds` says): labels that come sooner for wrong
answers than for right ones mislead nobody then, and evidence waits, with the rollback that it may
lead to.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from registry.losses import CALLS_PER_READ, LossCall, loss_calls, newest_call
from serving.frontier import Frontier
from serving.maturing import Maturing, Place
from serving.parts import Parts

_TICK = timedelta(microseconds=1)

logger = logging.getLogger(__name__)


class Following:
    """How far the detectors of each model have come.

    Args:
        parts: The gateway's.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        # Labels that waited for their predictions come by another thread: held while either feeds.
        self.lock = threading.RLock()
        self._maturing, self._frontier = Maturing(), Frontier(parts)
        self._places: dict[str, Place] = {}  # none before the model's detectors are restored

    def catch_up(self) -> None:
        """Take in what other gateways took, and what is old enough now.

        Raises:
            Unavailable: the database is away; the next call finds the same.
        """
        for model in self._parts.watches:
            with self.lock:
                self._read_on(model)
                self._ripen(model)

    def place(self, model: str) -> Place | None:
        """How far a model's detectors have come; None: they are not restored yet."""
        return self._places.get(model)

    def waiting(self, model: str) -> tuple[int, datetime | None]:
        """How many labels do not count yet, and when the oldest of their predictions was made."""
        return self._maturing.count(model), self._maturing.oldest(model)

    def told(self, model: str) -> dict[str, Any]:
        """`waiting` as plain JSON."""
        count, since = self.waiting(model)
        return {"labels": count, "since": since.isoformat() if since else None}

    def resume(self, model: str, place: Place, held: Sequence[LossCall]) -> None:
        """Go on from a place, with the calls before it that waited for their age then.

        Raises:
            Unavailable: the database is away; call it again.
        """
        with self.lock:
            self._maturing.forget(model)
            for call in held:
                self._maturing.add(model, call.generation, call.rows)
            self._places[model] = place
            self._read_on(model)
            self._ripen(model)

    def take_in(self, model: str, call: LossCall) -> None:
        """Take in one call that was just kept, and what came before it.

        Raises:
            Unavailable: the database is away; a later call finds the same.
        """
        with self.lock:
            place = self._places.get(model)
            if place is None:
                return  # read when the detectors are restored
            if call.number == place.call + 1:
                self._give(model, call)
            elif call.number > place.call:  # others took labels meanwhile, which come first
                self._read_on(model)
            self._ripen(model)
            if self._places[model].call < call.number:
                self._parts.wake.set()  # the routing moved: the controller follows it, then reads

    def _read_on(self, model: str) -> None:
        """Take in every call of the database that was not taken in yet."""
        place = self._places.get(model)
        if place is None:
            return
        with self._parts.reading() as session:
            newest = newest_call(session, model)
            if newest < place.call:
                logger.warning("the labels of %s went back to an earlier state", model)
                self._places[model] = replace(place, call=newest)
            after = self._places[model].call
            while after < newest:
                for call in loss_calls(session, model, after):
                    if not self._give(model, call):
                        return
                after = min(after + CALLS_PER_READ, newest)
                self._places[model] = replace(self._places[model], call=after)

    def _give(self, model: str, call: LossCall) -> bool:
        """Take one call in; False where it has to wait until its routing is followed."""
        split, watch = self._parts.fleet.get(model), self._parts.watches[model]
        if split is None or call.generation > split.generation or watch.skipped:
            return False
        place = replace(self._places[model], call=call.number)
        if self._stated(model) == timedelta():
            watch.label(call.rows, call.generation)
            place = Place(call.number)  # nothing waits: a restart must not feed it again
        elif watch.concerned(call.generation):
            self._maturing.add(model, call.generation, call.rows)
        self._places[model] = place
        return True

    def _ripen(self, model: str) -> None:
        """Feed what may count now: what is old enough, or complete (`serving.frontier`)."""
        stated, place = self._stated(model), self._places.get(model)
        oldest = self._maturing.oldest(model)
        if place is None or oldest is None:
            return
        if stated is not None:
            self._feed_to(model, self._parts.clock() - stated)
            return
        until = place.until or oldest - _TICK
        if oldest <= until:
            self._feed_to(model, until, late=not self._frontier.late_count(model))
        if (surplus := self._maturing.surplus(model)) is not None:
            self._feed_to(model, until := max(until, surplus))
        alone = not self._parts.watches[model].comparing
        for moment, share in self._frontier.reach(model, until, alone=alone):
            self._feed_to(model, max(until, moment), share)
        if self._places[model].until is None:  # where a restart is to look for what waits
            self._places[model] = replace(place, until=until)

    def _feed_to(
        self, model: str, until: datetime, share: float = 1.0, *, late: bool = False
    ) -> None:
        for generation, rows in self._maturing.ripe(model, until):
            self._parts.watches[model].label(rows, generation, share, late=late)
        self._places[model] = replace(self._places[model], until=until)

    def _stated(self, model: str) -> timedelta | None:
        """How long labels wait, if the policy says so."""
        seconds = self._parts.policy(model).monitor.label_delay_seconds
        return None if seconds is None else timedelta(seconds=seconds)
