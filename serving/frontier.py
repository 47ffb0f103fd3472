"""Up to which predictions the labels of a model count, where no policy says so.

`monitoring.ripening` says why labels wait. Each gateway looks at the same log, so their frontiers
differ by the moments at which they look, and never by what labels say.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from homeostat.errors import HomeostatError
from monitoring.ripening import COMPLETE, YOUNG, Ripe, frontiers
from registry.ripeness import complete_to, label_age
from serving.parts import Parts

LEARNT_FOR = timedelta(seconds=30)
QUICK = 0.01  # seconds of a look in vain that may be followed by the next at once,
LOAD = 10.0  # and times as long as a longer one took, until then

Reach = tuple[datetime, float]  # a moment of prediction, and the share of labels that are in

logger = logging.getLogger(__name__)


@dataclass
class _Known:
    """What is known of one model's labels, and when it was looked up."""

    age: Ripe | None = None
    learnt: datetime | None = None
    rest_until: float = 0.0  # of the monotonic clock


class Frontier:
    """The frontier of each model.

    Args:
        parts: The gateway's.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._known: dict[str, _Known] = {}

    def reach(self, model: str, after: datetime, *, alone: bool) -> list[Reach]:
        """Up to where labels count now, the nearer first; of what was predicted after a moment.

        A database that is away costs a later look.

        Args:
            model: The registered model's name.
            after: The moment.
            alone: Whether no versions are compared: a comparison has no price for what lacks, and
                so no use for predictions of which most are never labelled.
        """
        known = self._known.setdefault(model, _Known())
        began = time.monotonic()
        if began < known.rest_until:
            return []
        found: list[Reach] = []
        try:
            found = self._look(model, after, known, alone)
        except HomeostatError as error:
            logger.warning("the labels of %s wait longer: %s", model, error)
        if not found:
            done = time.monotonic()
            known.rest_until = done + LOAD * (done - began - QUICK)
        return found

    def late_count(self, model: str) -> bool:
        """Whether labels count that come when the frontier has passed."""
        known = self._known.get(model)
        return known is not None and known.age is not None and known.age.late

    def _look(self, model: str, after: datetime, known: _Known, alone: bool) -> list[Reach]:
        now = self._parts.clock()
        with self._parts.reading() as session:
            if known.learnt is None or now - known.learnt >= LEARNT_FOR:
                tolerance = self._parts.policy(model).monitor.tolerance_loss
                known.age, known.learnt = label_age(session, model, now, tolerance), now
            age, passed = known.age, (now - after).total_seconds()
            warm = age is not None and age.share > 0.0
            settled = passed - age.at if age is not None and alone and not warm else -math.inf
            full = complete_to(session, model, after, COMPLETE if warm else YOUNG, settled)
        found = frontiers(full, age, passed)
        return [(after + timedelta(seconds=at), share) for at, share in found if at > 0.0]
