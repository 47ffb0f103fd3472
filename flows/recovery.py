r"""Retraining until it is well again: when to learn a change once more, and when to stop.

At an alarm little of the new world has been seen, and of a gradual change half of what was seen
is old. So the mean loss from before the change stays the reference until it is reached again, and
refreshes follow at geometrically growing amounts of data: with n rows at the first retrain the
next come at 2n, 4n, 8n rows since the change, so that N rows cost :math:`\log_2(N / n) + 1`
retrains at most. A refresh learns the rows since the retrain before: an age weight of 0 or 1, on
weights that learnt the older rows already. Two refreshes in a row without a significant gain end
it: this is then as good as it gets.

Pure rules over rows and losses: whoever replays or acts keeps the `Recovery` and asks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from monitoring import compare_losses

GROWTH = 2.0  # rows since the change at a refresh, as a multiple of those at the one before
PATIENCE = 2  # refreshes in a row without a gain, after which no more is to be had


@dataclass(frozen=True)
class Recovery:
    """A change that is being learnt; rows are numbered from the beginning of the stream.

    Args:
        change: The first row after it, as estimated.
        healthy: The mean loss of before, in [0, 1].
        tried: The row before which the last retrain looked; None: there was none.
        fruitless: Refreshes in a row without a significant gain.
    """

    change: int
    healthy: float
    tried: int | None = None
    fruitless: int = 0

    def due(self, row: int, min_labels: int) -> bool:
        """Whether the labels before `row` are enough for the next retrain."""
        learnt = 0 if self.tried is None else self.tried - self.change
        return row - self.change >= max(min_labels, GROWTH * learnt)

    def first_row(self) -> int:
        """The first row that the next retrain learns."""
        return self.change if self.tried is None else self.tried

    def after(self, row: int, loss: float, gained: bool, tolerance: float) -> Recovery | None:
        """What is still to be done after a retrain on the rows before `row`; None: nothing.

        Args:
            row: The first row that it did not see.
            loss: Mean held-out loss of the version that answers now.
            gained: Whether the retrain brought a significant gain.
            tolerance: Rise above the healthy loss that is not worth an alarm.
        """
        if loss <= self.healthy + tolerance:
            return None
        first = self.tried is None
        fruitless = 0 if gained or first else self.fruitless + 1
        if fruitless >= PATIENCE:
            return None
        return replace(self, tried=row, fruitless=fruitless)


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
