"""Has a version become worse than it was where it was judged?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from homeostat.errors import InputError
from monitoring.bets import upper_bound
from monitoring.evidence import MeanDetector, checked

MISLED = 0.01  # probability that a reference misleads beyond its limit
# Each bet is the best one against this multiple of the bound's odds. A small rise takes long to
# see, so what its bets weigh shortens that by the most labels.
_ODDS = np.array([1.4, 1.8, 2.6, 5.0, 15.0, 60.0])
_WEIGHTS = np.array([0.3, 0.25, 0.2, 0.15, 0.06, 0.04])


@dataclass(frozen=True)
class LossReference:
    """The losses of the rows that a version was judged by: their number and their sum."""

    n: int
    total: float

    @property
    def mean(self) -> float:
        """The mean reference loss; 1 without rows, since nothing is known."""
        return self.total / self.n if self.n else 1.0


class LossDetector(MeanDetector):
    r"""Detects that the mean loss has risen; an improvement never alarms.

    For the losses of labelled predictions of one version against its own reference. To compare
    two versions on the same rows use `GuardDetector`, which needs fewer labels; to decide which
    of two is better once, `PairedTest`.

    Unchanged means: mean loss at most :math:`m_0 + \epsilon`, with :math:`m_0` the reference's own.
    The reference is a sample, so a loss is bet on against what is known of :math:`m_0` by then,
    from n losses of sum k, the reference's and all labels' since the start,

    .. math:: \mu = \epsilon + \min(\max(\tfrac{k + 1/2}{n + 1}, \bar m), u),

    with :math:`\bar m` the mean of the reference and u its 99 % upper (Chernoff) limit. While
    nothing changes, :math:`(k + 1/2) / (n + 1)` is the predictive mean of the next error (Beta
    posterior of Jeffreys): given the reference, a false alarm takes at least `budget` labels in the
    mean over what the error rate may be by that posterior, except for the one rate in a hundred
    beyond u. A higher :math:`\mu` only makes bets smaller, and the limit u sees what comes so
    slowly that the labels learn it. A short reference costs delay, not budget; without any the
    detector stays silent. Losses between 0 and 1 vary less than errors of the same mean; that they
    keep the budget too is shown by simulation (`make bench-drift`). The bets are those of
    Waudby-Smith and Ramdas (2024) on a mixture of effects, odds of 1.4 to 60; see `MeanDetector`.

    Args:
        reference: The version's reference losses.
        budget: At most one false alarm in so many labels.
        tolerance: Rise of the mean loss that is not worth an alarm.

    Raises:
        InputError: a reference, budget or tolerance that cannot be meant.

    Example:
        >>> import numpy as np
        >>> losses = np.random.default_rng(7).random(400) < np.r_[[0.1] * 200, [0.5] * 200]
        >>> detector = LossDetector(LossReference(2_000, 200.0), budget=100_000, tolerance=0.02)
        >>> detector.update(losses[:200])
        >>> detector.drift_detected
        False
        >>> detector.update(losses[200:])
        >>> detector.drift_detected
        True
    """

    def __init__(self, reference: LossReference, budget: int, tolerance: float) -> None:
        if not (0 <= reference.total <= reference.n and 0.0 <= tolerance <= 1.0):
            raise InputError(f"{reference} with tolerance {tolerance} is no bound on a mean loss.")
        self.reference = reference
        self.tolerance = tolerance
        self._limit = float(upper_bound(reference.mean, reference.n, -math.log(MISLED)))
        bound = self._limit + tolerance
        # At a bound of 1 nothing can be worse: no bet is left, and none must idle upwards.
        bets = len(_ODDS) if bound < 1.0 else 0
        self._excess = _ODDS[:bets] - 1.0
        fractions = self._excess / (1.0 + self._excess * bound) * bound
        super().__init__(budget, bound, 0.0, fractions, weights=_WEIGHTS[:bets])

    @property
    def unchanged(self) -> float:
        """The largest mean loss that the reference's limit and the tolerance allow."""
        return self._limit + self.tolerance

    def _price(self) -> None:
        known = (self.reference.total + self.total + 0.5) / (self.reference.n + self.rows + 1)
        mean = min(max(known, self.reference.mean), self._limit) + self.tolerance
        self.bound = min(mean / self._share, max(mean, 1.0))
        self._stakes = self._excess / (1.0 + self._excess * self.bound)

    def update(
        self,
        losses: ArrayLike,
        share: float = 1.0,
        *,
        bet: bool = True,
        moments: ArrayLike | None = None,
    ) -> None:
        """Take losses in [0, 1], in the order of their predictions.

        Args:
            losses: One for each label.
            share: Of the labels of these predictions that are in; that of the others may be all 0,
                so a mean that is 1 / `share` times as high counts as unchanged.
            bet: Whether they are evidence. What comes later than the labels of its time is only
                learnt from: which answers are labelled late may be no accident.
            moments: When their predictions were made, where some may come late, in seconds; None:
                in order.

        Raises:
            InputError: a loss that is not finite or outside [0, 1]; nothing is taken then.
        """
        self._take(checked(losses, 0.0, 1.0, "loss"), share, bet, moments)

    def _settings(self) -> dict[str, Any]:
        reference = [self.reference.n, self.reference.total]
        return {"reference": reference, "budget": self.budget, "tolerance": self.tolerance}

    @classmethod
    def _from_settings(cls, settings: dict[str, Any]) -> Self:
        n, total = settings["reference"]
        reference = LossReference(int(n), float(total))
        return cls(reference, int(settings["budget"]), float(settings["tolerance"]))
