"""Comparing two versions label by label, with looks as often as one likes."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike

from homeostat.errors import ArtifactError, InputError
from monitoring.dependence import Spacing
from monitoring.evidence import SCHEMA, Floats, MeanDetector, checked

Decision = Literal["continue", "not-worse", "worse"]

# Stakes as fractions of the largest safe one, from many labels and small effects to few and large.
_FRACTIONS = np.array([0.99, 0.85, 0.65, 0.45, 0.3, 0.2, 0.12, 0.07, 0.04, 0.02, 0.01])
_GUARD_FRACTIONS = np.array([0.98, 0.8, 0.55, 0.3, 0.12])
_GUARD_HEAD_START = 0.005  # of the budget: a promoted version may be bad from its first answer
_GRID = 1000  # differences are kept to 1/1000 for the interval, which is widened by half of it
_HALVINGS = 40


class GuardDetector(MeanDetector):
    r"""Detects that the champion has become worse than the standby on the same rows.

    Takes paired differences d = loss(champion) - loss(standby) in [-1, 1]; unchanged means a
    mean of at most `tolerance`. Being paired it needs fewer labels than `LossDetector`, and it
    is blind to what harms both versions alike: that is the sibling's to see.

    A promotion is the likeliest moment of a change, so the detector starts with evidence worth
    `budget` / 200 labels and its threshold is raised by as much: the average run length stays
    `budget`, and the chance of a false rollback within n labels of a promotion is at most
    1/200 + n / budget. Each `reset` is such a start: keep the state across a restart. See
    `MeanDetector` for the statistics.

    Args:
        budget: At most one false alarm in so many labels.
        tolerance: How much worse than the standby is not worth a rollback.

    Raises:
        InputError: a budget or tolerance that cannot be meant.

    Example:
        >>> guard = GuardDetector(budget=100_000, tolerance=0.02)
        >>> guard.update([0.0] * 10 + [1.0] * 20)
        >>> guard.drift_detected, guard.since
        (True, 20)
    """

    def __init__(self, budget: int, tolerance: float) -> None:
        if not 0.0 <= tolerance < 1.0:
            raise InputError(f"The tolerance is {tolerance}, not in [0, 1).")
        self.tolerance = tolerance
        super().__init__(budget, tolerance, -1.0, _GUARD_FRACTIONS, budget * _GUARD_HEAD_START)

    def update(self, differences: ArrayLike, moments: ArrayLike | None = None) -> None:
        """Take paired differences in [-1, 1], in the order of their predictions.

        Args:
            differences: One for each label.
            moments: When their predictions were made, where some may come late, in seconds; None:
                in order.

        Raises:
            InputError: one that is not finite or outside [-1, 1]; nothing is taken then.
        """
        self._take(checked(differences, -1.0, 1.0, "difference"), moments=moments)

    def _settings(self) -> dict[str, Any]:
        return {"budget": self.budget, "tolerance": self.tolerance}

    @classmethod
    def _from_settings(cls, settings: dict[str, Any]) -> Self:
        return cls(int(settings["budget"]), float(settings["tolerance"]))


class PairedTest:
    r"""Is the challenger not worse than the champion, or worse? Decides once, at any time.

    Takes d = loss(challenger) - loss(champion) in [-1, 1] on the same rows. Two e-processes, each
    a mixture of bets :math:`\prod (1 + \lambda x)`, are raised against "mean d >= margin" and
    "mean d <= 0"; the first to reach 1 / `error_rate` decides and the decision stands. Each of
    the two errors has probability at most `error_rate`, however often one looks (Ville 1939).

    A challenger better by 0.3 is decided in some 20 to 40 labels. Two equally good versions
    with a margin of 0.02 need many: about 250 when they never disagree, and thousands when
    they disagree on one row in ten, since 0.02 must then be told from the noise of that. Where
    the truth lies between 0 and the margin both hypotheses are false and either may be decided.

    Where rows that are near in time are alike, only each `spacing.gap`-th counts
    (`monitoring.dependence`): errors in bursts decide far too often otherwise. A test may be over
    before it has seen that for itself, so give it what is known (`spacing.merge`).

    Args:
        margin: How much worse still counts as not worse, in [0, 1).
        error_rate: Of each of the two decisions, in (0, 1).

    References:
        Waudby-Smith and Ramdas, *Estimating means of bounded random variables by betting*
        (2024), section 4.

    Example:
        >>> test = PairedTest(margin=0.02, error_rate=0.05)
        >>> test.update([-1, 0, 0] * 20)
        >>> test.decision, test.n
        ('not-worse', 60)
    """

    def __init__(self, margin: float, error_rate: float) -> None:
        if not (0.0 <= margin < 1.0 and 0.0 < error_rate < 1.0):
            raise InputError(f"A margin of {margin} at error rate {error_rate} cannot be tested.")
        self.margin = margin
        self.error_rate = error_rate
        self.spacing = Spacing()
        self.reset()

    def reset(self) -> None:
        """Forget all differences; the settings stay, and how far apart rows are to be."""
        self.n = 0
        self.total = 0.0
        self.decision: Decision = "continue"
        self._not_worse = np.zeros(len(_FRACTIONS))
        self._worse = np.zeros(len(_FRACTIONS))
        self._seen: Counter[int] = Counter()

    def update(self, differences: ArrayLike) -> None:
        """Take paired differences in [-1, 1].

        Raises:
            InputError: one that is not finite or outside [-1, 1]; nothing is taken then.
        """
        values = checked(differences, -1.0, 1.0, "difference")
        values = values[self.spacing.keep(values[:, None])]
        self._seen.update(np.rint(values * _GRID).astype(int).tolist())
        for value in values:
            self.n += 1
            self.total += float(value)
            self._not_worse += np.log1p(_FRACTIONS / (1 - self.margin) * (self.margin - value))
            self._worse += np.log1p(_FRACTIONS * value)
            if self.decision == "continue":
                self._decide()

    @property
    def mean(self) -> float:
        """Mean difference so far; 0 before the first."""
        return self.total / self.n if self.n else 0.0

    @property
    def squares(self) -> float:
        """Sum of the squares of the differences so far."""
        return sum(count * (key / _GRID) ** 2 for key, count in self._seen.items())

    @property
    def threshold(self) -> float:
        """The log evidence at which either decision falls."""
        return -math.log(self.error_rate)

    @property
    def evidence_not_worse(self) -> float:
        """Log evidence against "the mean difference is at least the margin"."""
        return _mixture(self._not_worse)

    @property
    def evidence_worse(self) -> float:
        """Log evidence against "the mean difference is at most 0"."""
        return _mixture(self._worse)

    def interval(self) -> tuple[float, float]:
        """Confidence sequence of the mean difference: covers it at all times at once.

        Returns:
            (low, high) within [-1, 1]; (-1, 1) before the first difference.
        """
        values = np.array([key / _GRID for key in self._seen], dtype=np.float64)
        counts = np.array(list(self._seen.values()), dtype=np.float64)
        low, high = _interval((values + 1.0) / 2.0, counts, self.error_rate)
        rounding = 0.5 / _GRID
        return max(-1.0, 2 * low - 1 - rounding), min(1.0, 2 * high - 1 + rounding)

    def merge(self, other: PairedTest) -> None:
        """Add a replica's differences, as if they had come after one's own.

        Raises:
            InputError: the other has different settings.
        """
        if (self.margin, self.error_rate) != (other.margin, other.error_rate):
            raise InputError("Two paired tests with different settings do not add up.")
        self.n += other.n
        self.total += other.total
        self._not_worse += other._not_worse
        self._worse += other._worse
        self._seen.update(other._seen)
        self.spacing.merge(other.spacing)
        if self.decision == "continue":
            self.decision = other.decision
        if self.decision == "continue":
            self._decide()

    def to_json(self) -> str:
        """Settings and state as JSON."""
        return json.dumps(
            {
                "schema": SCHEMA,
                "margin": self.margin,
                "error_rate": self.error_rate,
                "n": self.n,
                "total": self.total,
                "decision": self.decision,
                "not_worse": self._not_worse.tolist(),
                "worse": self._worse.tolist(),
                "seen": sorted(self._seen.items()),
                "spacing": self.spacing.to_json(),
            }
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ArtifactError: not a paired test's state.
        """
        try:
            data = json.loads(text)
            if data["schema"] != SCHEMA or data["decision"] not in get_args(Decision):
                raise ValueError(f"schema {data['schema']!r}, decision {data['decision']!r}")
            test = cls(float(data["margin"]), float(data["error_rate"]))
            bets = len(_FRACTIONS)
            test._not_worse = np.array(data["not_worse"], dtype=np.float64).reshape(bets)
            test._worse = np.array(data["worse"], dtype=np.float64).reshape(bets)
            test.n, test.total = int(data["n"]), float(data["total"])
            test.decision = data["decision"]
            if "spacing" in data:  # earlier releases kept none
                test.spacing = Spacing.from_json(data["spacing"])
            test._seen = Counter({int(key): int(count) for key, count in data["seen"]})
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"The state of a PairedTest cannot be read: {error}.",
                remedy="Start the comparison afresh.",
            ) from None
        return test

    def _decide(self) -> None:
        if self.evidence_worse >= self.threshold:
            self.decision = "worse"
        elif self.evidence_not_worse >= self.threshold:
            self.decision = "not-worse"

    def __repr__(self) -> str:
        return f"PairedTest(margin={self.margin!r}, error_rate={self.error_rate!r})"


def mean_interval(
    losses: ArrayLike, error_rate: float, counts: ArrayLike | None = None
) -> tuple[float, float]:
    """Interval of a mean in [0, 1] that stays valid however often it is recomputed.

    The means that no mixture of bets has ruled out (Waudby-Smith and Ramdas 2024, theorem 3,
    with fixed stakes). No distribution is assumed.

    Args:
        losses: (n,) values in [0, 1]; n may be 0, which gives (0, 1).
        error_rate: Probability of ever missing the mean, in (0, 1).
        counts: (n,) how often each value came; once where not given.

    Raises:
        InputError: a value outside [0, 1], or such an error rate.
    """
    if not 0.0 < error_rate < 1.0:
        raise InputError(f"The error rate is {error_rate}, not in (0, 1).")
    values = checked(losses, 0.0, 1.0, "loss")
    if counts is not None:
        return _interval(values, np.asarray(counts, dtype=np.float64), error_rate)
    values, times = np.unique(values, return_counts=True)
    return _interval(values, times.astype(np.float64), error_rate)


def _interval(values: Floats, counts: Floats, error_rate: float) -> tuple[float, float]:
    if not len(values):
        return 0.0, 1.0
    threshold = math.log(2.0 / error_rate)
    mean = float(values @ counts / counts.sum())
    low = _last_refused(values, counts, mean, threshold)
    return low, 1.0 - _last_refused(1.0 - values, counts, 1.0 - mean, threshold)


def _last_refused(values: Floats, counts: Floats, mean: float, threshold: float) -> float:
    """The largest m at which the bets on "the mean is above m" have won enough; 0 if none."""
    low, high = 0.0, mean
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        # The capital at m falls as m grows, so the last m that it refuses is found by halving.
        gains = np.log1p(_FRACTIONS[:, None] * (values / middle - 1.0)) if middle > 0 else None
        if gains is not None and _mixture(gains @ counts) >= threshold:
            low = middle
        else:
            high = middle
    return low


def _mixture(logs: Floats) -> float:
    """Log of the mean of exponentials."""
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).mean()))
