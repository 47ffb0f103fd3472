r"""Retraining until it is well again: when to learn a change once more, and when to stop.

At an alarm little of the new world has been seen, and of a gradual change half of what was seen
is old. So the mean loss from before the change stays the reference until it is reached again, and
refreshes follow at geometrically growing amounts of data: with n rows at the first retrain the
next come at 2n, 4n, 8n rows since the change, so that N rows cost :math:`\log_2(N / n) + 1`
retrains at most. A refresh learns the rows that the version which answers has not learnt: an age
weight of 0 or 1, on weights that learnt the older rows already. Three refreshes in a row without a
significant gain end it: this is then as good as it gets. Not fewer: while a change goes on, rows
contradict each other and no version gains, so that a rule which gives up then stays in the middle
of it for good, watched by a reference that was taken there.

Pure rules over rows and losses: whoever replays (`flows.backtest_loop`) or acts
(`serving.recovering`) keeps the `Recovery` and asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from monitoring.paired import compare_losses

GROWTH = 2.0  # rows since the change at a refresh, as a multiple of those at the one before
PATIENCE = 3  # refreshes in a row without a gain, after which no more is to be had


@dataclass(frozen=True)
class Try:
    """A retrain that ended.

    Args:
        row: The first row that it did not see.
        loss: Mean held-out loss, in [0, 1], of the version that answers now.
        served: Whether that is the one it made.
        gained: Whether that brought a significant gain.
    """

    row: int
    loss: float
    served: bool
    gained: bool


@dataclass(frozen=True)
class Recovery:
    """A change that is being learnt; rows are labelled ones, numbered in the order of time.

    Args:
        change: The first row after it, as estimated.
        healthy: The mean loss of before, in [0, 1].
        tried: The row before which the last retrain looked; None: there was none.
        learnt: The row before which the version that answers has learnt; None: it is from before.
        fruitless: Refreshes in a row without a significant gain.
    """

    change: int
    healthy: float
    tried: int | None = None
    learnt: int | None = None
    fruitless: int = 0

    def next_at(self, min_labels: int) -> int:
        """How many labels since the change the next retrain waits for."""
        tried = 0 if self.tried is None else self.tried - self.change
        return max(min_labels, int(GROWTH * tried))

    def due(self, row: int, min_labels: int) -> bool:
        """Whether the labels before `row` are enough for the next retrain."""
        return row - self.change >= self.next_at(min_labels)

    def first_row(self) -> int:
        """The first row that the next retrain learns."""
        return self.change if self.learnt is None else self.learnt

    def well(self, loss: float, tolerance: float) -> bool:
        """Whether a mean loss is that of before, but for what is not worth an alarm."""
        return loss <= self.healthy + tolerance

    def after(self, tried: Try, tolerance: float) -> Recovery | None:
        """What is still to be done after a retrain; None: nothing.

        Args:
            tried: How it ended.
            tolerance: Rise above the healthy loss that is not worth an alarm.
        """
        if self.well(tried.loss, tolerance):
            return None
        gained = tried.served and tried.gained
        fruitless = 0 if gained or self.tried is None else self.fruitless + 1
        if fruitless >= PATIENCE:
            return None
        learnt = tried.row if tried.served else self.learnt
        return replace(self, tried=tried.row, learnt=learnt, fruitless=fruitless)

    def follow(self, tries: Iterable[Try], tolerance: float) -> Recovery | None:
        """What is still to be done after several retrains, in their order; None: nothing."""
        recovery = self
        for one in tries:
            after = recovery.after(one, tolerance)
            if after is None:
                return None
            recovery = after
        return recovery


def gained(
    candidate: NDArray[np.float64], champion: NDArray[np.float64], error_rate: float
) -> bool:
    """Whether a candidate's loss is below the champion's by more than chance.

    Args:
        candidate: (N,) losses in [0, 1].
        champion: (N,) losses of the same rows.
        error_rate: Of the two-sided interval of the mean difference.
    """
    return compare_losses(candidate, champion, 1.0, error_rate).high < 0.0
