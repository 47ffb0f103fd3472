"""Answers that the prediction log could not take: counted, and told to on-call.

Only where `log.when_full` is "unlogged". The usual cause is a database that is away, and an
incident is kept in that database: so the beginning is told where it can be, the end always, with
how many rows there were.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta

from homeostat.errors import Unavailable
from serving.parts import Parts
from serving.telling import Teller

OVER = timedelta(seconds=5)  # without another such answer
LOGGED_AGAIN = "The log takes predictions again."
NEXT = (
    "see that the database runs and that the disk of the state folder has room; labels of these "
    "predictions will be of unknown ids."
)

logger = logging.getLogger(__name__)


@dataclass
class _Stretch:
    first: datetime
    last: datetime
    rows: int = 0
    told: bool = False  # that it began


class Unlogged:
    """What was answered and not logged, by model.

    Args:
        parts: The gateway's.
        teller: Tells on-call; under no lease, since each gateway tells of its own answers.
    """

    def __init__(self, parts: Parts, teller: Teller) -> None:
        self._parts, self._teller = parts, teller
        self._lock = threading.Lock()
        self._stretches: dict[str, _Stretch] = {}

    def add(self, model: str, rows: int) -> None:
        """Count answers that leave without being logged."""
        now = self._parts.clock()
        self._parts.metrics.unlogged.labels(model).inc(rows)
        with self._lock:
            stretch = self._stretches.setdefault(model, _Stretch(now, now))
            stretch.last = now
            stretch.rows += rows
            if stretch.rows == rows:
                logger.warning("predictions of %s are answered without being logged", model)

    def tell(self) -> None:
        """Tell what has begun, and what is over.

        Raises:
            Unavailable: the database is away; the next call tells it.
        """
        now = self._parts.clock()
        for model, stretch in list(self._stretches.items()):
            if now - stretch.last >= OVER:
                span = f"from {_spell(stretch.first)} to {_spell(stretch.last)} UTC"
                self._say(
                    model,
                    f"{stretch.rows} predictions of {model} were answered and not logged, {span}.",
                    LOGGED_AGAIN,
                )
                with self._lock:
                    # Unless others came while this was told.
                    if self._stretches[model].last == stretch.last:
                        del self._stretches[model]
            elif not stretch.told:
                since = _spell(stretch.first)
                self._say(
                    model,
                    f"Predictions of {model} are answered without being logged since {since} UTC.",
                    "",
                )
                stretch.told = True

    def _say(self, model: str, text: str, done: str) -> None:
        split = self._parts.fleet.get(model)
        if split is None:  # it answered a moment ago
            raise Unavailable(f"Nothing serves {model} now.")
        self._teller.tell(
            model,
            split.champion.version,
            text,
            done=done,
            next_step=NEXT,
            source="log",
            severity="page",
        )


def _spell(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
