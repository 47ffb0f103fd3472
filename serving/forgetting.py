"""The prediction log kept as long as `log.keep_days` and `log.keep_bytes` say.

Only the gateway that holds the lease forgets: in small transactions, so that nobody waits long for
the database, and for a part of each look only, so that the controller goes on looking.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from registry.losses import newest_call
from registry.retention import (
    Span,
    forget_predictions,
    oldest_within,
    spans_free,
    spans_needed,
)
from registry.retrains import retrain_running
from serving.feedback import Feedback
from serving.lease import Acting
from serving.parts import Parts

ROWS = 500  # of one transaction
LOOK_SECONDS = 0.25  # of one look of the controller, at most
REST = timedelta(minutes=1)  # once nothing is left to forget

logger = logging.getLogger(__name__)


class Forgetter:
    """Removes what is older, or more, than the log is to keep.

    Args:
        parts: The gateway's.
        feedback: Says whether every label that was taken is evidence already.
        acting: Opens the transactions that write.
        timer: Seconds that only go forward.
    """

    def __init__(
        self,
        parts: Parts,
        feedback: Feedback,
        acting: Acting,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parts, self._feedback, self._acting = parts, feedback, acting
        self._timer = timer
        self._due: dict[str, datetime] = {}

    def run(self) -> int:
        """Forget for a while; how many predictions went.

        Raises:
            Refused: the lease was lost.
            Unavailable: the database is away; the next call goes on.
        """
        policy = self._parts.settings.log
        if not (policy.keep_days or policy.keep_bytes):
            return 0
        gone, until = 0, self._timer() + LOOK_SECONDS
        for model in self._parts.watches:
            now = self._parts.clock()
            if now < self._due.get(model, now):
                continue
            spans = self._spans(model, now)
            removed = ROWS
            while spans and removed >= ROWS:
                if self._timer() >= until:
                    return gone
                with self._acting() as session:
                    removed = forget_predictions(session, model, spans, now, ROWS)
                gone += removed
            self._due[model] = now + REST
        if gone:
            logger.info("%d predictions were forgotten", gone)
        return gone

    def _spans(self, model: str, now: datetime) -> list[Span]:
        """What may go now; nothing while a retrain reads, or a label is no evidence yet."""
        policy, place = self._parts.settings.log, self._feedback.following.place(model)
        with self._parts.reading() as session:
            if place is None or place.call < newest_call(session, model):
                return []
            if retrain_running(session, model) is not None:
                return []
            ends = []
            if policy.keep_days:
                ends.append(now - timedelta(days=policy.keep_days))
            if policy.keep_bytes and (oldest := oldest_within(session, model, policy.keep_bytes)):
                ends.append(oldest)
            if not ends:
                return []
            delay = timedelta(seconds=self._parts.policy(model).monitor.label_delay_seconds or 0.0)
            _, waits = self._feedback.following.waiting(model)
            if waits is not None:  # what was predicted since is read again after a restart
                delay = max(delay, now - waits)
            return spans_free(max(ends), spans_needed(session, model, now, delay))
