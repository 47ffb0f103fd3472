"""The prediction log as a stream to replay: what was asked, in order, with its truths.

Beside what a rule would have made of it stands what was: the losses of the versions that answered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from flows.backtest import MIN_WARMUP, Course, Losses, Replayed, Tally
from flows.rows import as_dataset
from homeostat.errors import DataError
from models.data import Dataset
from registry.labels import LabelledRow

MOST_ROWS = 200_000  # the newest so many: a backtest of more takes long and tells no more
WARMUP_SHARE = 4  # of what there is, where nobody says otherwise: one part in so many
LEAST = WARMUP_SHARE * MIN_WARMUP  # rows: with fewer there is nothing to replay


@dataclass(frozen=True)
class Logged:
    """What the log has of a model.

    Args:
        dataset: The N labelled rows, oldest first.
        start: When the first was predicted.
        end: And the last.
        rows_per_day: How many come in a day.
        delay: Rows between an answer and the moment from which its label counts.
        versions: (N,) which version answered each.
        losses: (N,) what its answer lost, NaN where that is not known.
    """

    dataset: Dataset
    start: datetime
    end: datetime
    rows_per_day: int
    delay: int
    versions: tuple[int, ...]
    losses: Losses

    def warmup(self, most: int) -> int:
        """Rows to train version 1 with: a fourth part, at most so many."""
        return min(most, len(self.dataset) // WARMUP_SHARE)

    def as_it_was(self, course: Course) -> Replayed | None:
        """What callers were given on the rows that are replayed; None: not known of every row.

        Its retrains are the rows at which a version answered for the first time.
        """
        losses = self.losses[course.warmup :]
        if not np.isfinite(losses).all():
            return None
        seen, begun = set(self.versions[: course.warmup]), []
        for row, version in enumerate(self.versions[course.warmup :], course.warmup):
            if version not in seen:
                seen.add(version)
                begun.append(row)
        return Replayed("as it was", losses, Tally(retrains=begun), 0.0)


def logged(rows: Sequence[LabelledRow], wait: timedelta, model: str, days: float) -> Logged:
    """The labelled rows of a log, as a stream.

    Args:
        rows: Oldest first.
        wait: How old a prediction is when its label counts.
        model: Whose, for a refusal.
        days: How far was looked back, likewise.

    Raises:
        DataError: too few rows to replay.
    """
    if len(rows) < LEAST:
        raise DataError(
            f"The log has {len(rows)} labelled predictions of '{model}' in the last {days:g} days;"
            f" a backtest takes {LEAST} or more.",
            remedy="Look further back with --days, send labels, or name a file of labelled rows.",
            rows=len(rows),
            model=model,
        )
    start, end = rows[0].at, rows[-1].at
    span = max((end - start).total_seconds(), 1.0)
    a_second = len(rows) / span
    losses = [math.nan if row.loss is None else row.loss for row in rows]
    return Logged(
        dataset=as_dataset(rows),
        start=start,
        end=end,
        rows_per_day=max(1, round(a_second * 86_400)),
        delay=round(a_second * wait.total_seconds()),
        versions=tuple(row.version for row in rows),
        losses=np.asarray(losses, dtype=np.float64),
    )
