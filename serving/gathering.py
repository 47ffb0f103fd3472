"""The gateways of one database, brought together: who is there, and what all of them counted.

Every gateway says once a second that it is there, what it serves, and what it counted of the
inputs since (`registry.gateways`). Whoever finds windows that all have passed adds them up
(`registry.input_counts`), and every gateway feeds its input detectors with the sums, once and in
the order of their numbers. So evidence on inputs is the same on all gateways, and the same as if
one had answered everything.

Of a gateway that is killed, what it answered after its last message is no evidence on inputs; that
is said once, with the moment from which it is missing. Its predictions are in the log as ever.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from homeostat.errors import HomeostatError
from registry.gateways import (
    GatewayInfo,
    Message,
    behind,
    enter_gateway,
    known_gateways,
    mark_gone,
    take_message,
)
from registry.input_counts import (
    has_parts,
    input_counts,
    merge_parts,
    newest_counts,
    oldest_counts,
    window_of,
)
from serving.background import in_background
from serving.parts import Parts

EVERY_SECONDS = 1.0  # between two messages, at most
# What was answered is noted a moment later, by a thread that others may hold up.
SETTLE = timedelta(seconds=0.2)
COUNTS_PER_READ = 500

logger = logging.getLogger(__name__)


class Gathering:
    """This gateway among the others.

    Args:
        parts: The gateway's.
        stopping: Ends the loop.
    """

    def __init__(self, parts: Parts, stopping: threading.Event) -> None:
        self.known: list[GatewayInfo] = []
        """The gateways of this database, this one too, as they were at the last turn."""
        self._parts = parts
        self._stopping = stopping
        self._sending = threading.Lock()
        self._feeding = threading.RLock()
        self._sent = 0
        self._unsent: Message | None = None  # whose transaction may or may not have been kept
        self._places: dict[str, int] = {}  # none before a model's detectors are restored
        self._troubled = False
        self._thread = in_background(self._run, "gathering")

    def start(self) -> None:
        """Let the others know of this gateway before it answers, and begin to send."""
        self.turn()
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """End the loop and bring what was counted last; nobody waits for this gateway then."""
        if self._thread.ident is None:  # never started: nobody knows of this gateway
            return
        self._thread.join(seconds)
        self.turn(last=True)
        if self._unsent is not None:
            rows = sum(one.rows for one in self._unsent.counts)
            logger.warning("%d rows answered last may be no evidence on inputs", rows)

    def turn(self, *, last: bool = False) -> None:
        """Send, add up, and take in what there is; what fails is done by the next turn."""
        try:
            self.send(last=last)
            self.merge()
            for model in self._parts.watches:
                self.follow(model)
        except HomeostatError as error:
            if not self._troubled:
                logger.warning("the other gateways hear of this one later: %s", error)
            self._troubled = True
        except Exception:
            logger.exception("what the gateways counted could not be brought together")
        else:
            self._troubled = False

    def send(self, *, last: bool = False) -> None:
        """Say that this gateway is there, and bring what it counted.

        Raises:
            Unavailable: the database is away; the next call brings it.
        """
        with self._sending:
            if self._unsent is not None:
                self._deliver(self._unsent)
            self._unsent = self._message(last)
            self._deliver(self._unsent)

    def merge(self) -> None:
        """Add up the windows that every gateway has passed, and tell of gateways that are gone.

        Raises:
            Unavailable: the database is away; the next call does it.
        """
        parts, now = self._parts, self._parts.clock()
        with parts.reading() as session:
            self.known = known_gateways(session)
            before = _closed_before(self.known, parts)
            ready = [one for one in parts.watches if has_parts(session, one, before)]
        self._show(now)
        if any(one.ended_at is None and not one.is_live(now) for one in self.known):
            with parts.writing() as session:
                gone = mark_gone(session, now)
            for one in gone:
                logger.warning(
                    "gateway %s is gone: nothing came since %s, and what it answered after that is"
                    " no evidence on inputs; its log and its labels lack nothing",
                    one.name,
                    one.seen_at.isoformat(timespec="seconds"),
                )
        for model in ready:
            with parts.writing() as session:
                merge_parts(session, model, _closed_before(known_gateways(session), parts))

    def follow(self, model: str) -> None:
        """Feed the input detector of a model with what was added up since.

        Raises:
            Unavailable: the database is away; the next call finds the same.
        """
        with self._feeding:
            while (place := self._places.get(model)) is not None:
                with self._parts.reading() as session:
                    newest = newest_counts(session, model)
                    counts = input_counts(session, model, place, COUNTS_PER_READ)
                if newest < place:
                    logger.warning("the input counts of %s went back to an earlier state", model)
                    self._places[model] = newest
                    return
                watch = self._parts.watches[model]
                if newest > place and (not counts or counts[0].number != place + 1):
                    watch.skipped = True  # too long away: it is taken up where another saved it
                    self._parts.wake.set()
                    return
                for one in counts:
                    split = self._parts.fleet.get(model)
                    if split is None or one.generation > split.generation or watch.skipped:
                        return  # the routing that it was counted under is followed first
                    watch.see(one)
                    self._places[model] = one.number
                if len(counts) < COUNTS_PER_READ:
                    return

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """While this is held no input detector moves."""
        with self._feeding:
            yield

    def place(self, model: str) -> int | None:
        """The number of the newest counts that a model's detector has seen; None: not restored."""
        return self._places.get(model)

    def resume(self, session: Session, model: str, place: int) -> None:
        """Go on after a number, or with the oldest counts that there are."""
        with self._feeding:
            self._places[model] = max(place, oldest_counts(session, model) - 1)

    def _message(self, last: bool) -> Message:
        parts, now = self._parts, self._parts.clock()
        until = window_of(now - SETTLE)
        counts = [
            one
            for watch in parts.watches.values()
            for one in watch.counted(None if last else until)
        ]
        splits = parts.fleet.snapshot()
        serving = {
            model: {
                "generation": splits[model].generation if model in splits else 0,
                "shown": parts.shown.get(model, 0),
            }
            for model in parts.watches
        }
        return Message(self._sent + 1, now, until, serving, tuple(counts), last)

    def _deliver(self, message: Message) -> None:
        with self._parts.writing() as session:
            try:
                take_message(session, self._parts.gateway_id, message)
            except LookupError:
                if message.number > 1:  # forgotten after an hour's silence, and perhaps kept then
                    message = replace(message, counts=())
                host, pid = socket.gethostname(), os.getpid()
                enter_gateway(session, self._parts.gateway_id, host, pid, message)
                take_message(session, self._parts.gateway_id, message)
        self._sent, self._unsent = message.number, None

    def _show(self, now: datetime) -> None:
        """Tell Prometheus of the gateways."""
        live = [one for one in self.known if one.is_live(now)]
        metrics = self._parts.metrics
        metrics.gateways.labels("live").set(len(live))
        silent = [one for one in self.known if one.gone or one.ended_at is None]
        metrics.gateways.labels("gone").set(len(silent) - len(live))
        for model, generation in self._parts.wanted.items():
            metrics.behind.labels(model).set(len(behind(live, model, generation)))

    def _run(self) -> None:
        interval = min(EVERY_SECONDS, self._parts.settings.poll_seconds)
        while not self._stopping.is_set():
            self._parts.news.wait(interval)
            self._parts.news.clear()
            if not self._stopping.is_set():
                self.turn()


def _closed_before(known: Iterable[GatewayInfo], parts: Parts) -> int | None:
    """The first window that some gateway may still bring counts of; None: there is no gateway."""
    now = parts.clock()
    return min((one.counted_until for one in known if one.is_live(now)), default=None)
