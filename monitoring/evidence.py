"""The Shiryaev-Roberts e-detector of a bounded mean, behind the loss and the guard detectors."""

from __future__ import annotations

import bisect
import json
import math
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homeostat.errors import ArtifactError, InputError
from monitoring.dependence import Spacing

Floats = NDArray[np.float64]

SCHEMA = 1
CAP = 1e200  # of the running evidence: far beyond any budget, and still a finite number
COHORT = 25  # values of one, before the next begins
COHORTS = 64  # kept apart


def checked(values: ArrayLike, low: float, high: float, what: str) -> Floats:
    """Values as a flat array, each in [low, high].

    Raises:
        InputError: the first value that is not finite or lies outside, by index.
    """
    array = np.asarray(values, dtype=np.float64).ravel()
    bad = np.flatnonzero(~((array >= low) & (array <= high)))
    if len(bad):
        index = int(bad[0])
        raise InputError(
            f"The {what} at index {index} is {array[index]}, not a number in [{low:g}, {high:g}].",
            index=index,
        )
    return array


class MeanDetector:
    r"""Has the mean of bounded values risen above a bound?

    Each of several fixed bets multiplies its evidence per value x,

    .. math:: R \leftarrow (R + 1) \, (1 + \lambda (x - \mu)), \quad 0 < \lambda < 1 / (\mu - a),

    with values in [a, b] and :math:`\mu` the largest mean that still counts as unchanged. R minus
    the number of values (and the head start) has no upward drift while the mean is at most
    :math:`\mu`, whatever the dependence on the past, and an average over bets has none either:
    with the alarm at R >= budget + head start, a false alarm takes at least `budget` values in
    the mean, however often one looks. That mean is the one given the past: where values that are
    near in time are alike, only each `spacing.gap`-th is bet on (`monitoring.dependence`).

    R is a sum over the values at which a change may have begun, and is kept in parts: cohorts of
    `COHORT` values that follow one another by their moments. A value that comes when later ones
    were taken already is bet on by its own cohort and those before it alone, as it would have been
    in its time: where good and bad stretches come mixed, evidence of the bad ones is not smeared.
    Values in order give what one cohort would. Which parts bet on a value hangs on its moment
    alone, which says nothing of it, and each value adds one start: so R minus their number has no
    upward drift as before, and the budget is the same. The oldest of more than `COHORTS` are one.

    Args:
        budget: At most one false alarm in so many values.
        bound: The mean mu.
        low: The least possible value a.
        fractions: Of the largest safe stake, one for each bet, in (0, 1).
        weights: Of the bets in the average, adding up to 1; None: all the same.
        head_start: Values' worth of evidence given at the start (the SR-r procedure); it is
            also added to the threshold, which keeps the average run length.

    References:
        Shin, Ramdas, Rinaldo, *E-detectors* (2022); Waudby-Smith and Ramdas, *Estimating means
        of bounded random variables by betting* (2024); for the head start Moustakides,
        Polunchenko, Tartakovsky, *A numerical approach to performance analysis* (2011).
    """

    def __init__(
        self,
        budget: int,
        bound: float,
        low: float,
        fractions: Floats,
        head_start: float = 0.0,
        weights: Floats | None = None,
    ) -> None:
        if budget < 1:
            raise InputError(f"A budget of {budget} means an alarm at once; at least 1 is needed.")
        self.budget = budget
        self.bound = bound
        self._first_head_start = head_start
        self.spacing = Spacing()
        self._share = 1.0  # of the values that are to come, of which those taken now are a part
        self._stakes = fractions / max(bound - low, 1e-12)
        even = np.full(len(fractions), 1.0 / max(len(fractions), 1))
        self._weights = even if weights is None else weights
        self.reset()

    def reset(self) -> None:
        """Forget all values; the settings stay, and how far apart values are to be."""
        self.rows = 0
        self.total = 0.0
        self.drift_detected = False
        self.head_start = self._first_head_start
        self._running = np.full((1, len(self._stakes)), self.head_start)  # (cohorts, bets)
        self._from = [0.0]  # the moment of each cohort's first value, in their order
        self._filled = 0  # values of the newest
        self._climb = np.zeros(len(self._stakes))
        self._start = np.zeros(len(self._stakes), dtype=np.int64)
        self._price()

    @property
    def threshold(self) -> float:
        """The log evidence at which drift is detected."""
        return math.log(self.budget + self.head_start)

    @property
    def evidence(self) -> float:
        """Log of the running evidence, at least 0."""
        return math.log(max(float(self._running.sum(axis=0) @ self._weights), 1.0))

    @property
    def since(self) -> int:
        """Estimated number of values since the change: the start of the best bet's climb."""
        if not self.rows or not len(self._stakes):
            return 0
        best = int((self._running.sum(axis=0) * self._weights).argmax())
        return self.rows - int(self._start[best])

    def _take(
        self,
        values: Floats,
        share: float = 1.0,
        bet: bool = True,
        moments: ArrayLike | None = None,
    ) -> None:
        """Take values; the arguments as `LossDetector.update` has them."""
        times = [None] * len(values) if moments is None else np.asarray(moments, float).tolist()
        kept = self.spacing.keep(values[:, None]).tolist() if bet else [False] * len(values)
        self._share = share
        self._price()
        for value, bet_on, moment in zip(values.tolist(), kept, times, strict=True):
            self.rows += 1
            self.total += value
            if not bet_on:
                self._price()
                continue
            factor = 1.0 + self._stakes * (value - self.bound)
            own = self._cohort(moment)
            self._running[own] += 1.0
            older = self._running[: own + 1]
            np.minimum(older * factor, CAP, out=older)
            fresh = self._climb <= 0.0
            self._start[fresh] = self.rows - 1
            self._climb = np.where(fresh, 0.0, self._climb) + np.log(factor)
            self._price()
            # Latched: the controller may look later than the value that decided.
            if not self.drift_detected and self.evidence >= self.threshold:
                self.drift_detected = True

    def _cohort(self, moment: float | None) -> int:
        """The place of the cohort of a value; one that follows all others may begin another."""
        if moment is not None and moment < self._from[-1]:
            return max(0, bisect.bisect_right(self._from, moment) - 1)
        if self._filled == COHORT:
            self._from.append(self._from[-1] if moment is None else moment)
            self._running = np.concatenate([self._running, np.zeros_like(self._running[:1])])
            self._filled = 0
            self._fold()
        self._filled += 1
        return len(self._from) - 1

    def _fold(self) -> None:
        """Make the oldest of too many cohorts one."""
        while len(self._from) > COHORTS:
            oldest = np.minimum(self._running[:1] + self._running[1:2], CAP)
            self._running = np.concatenate([oldest, self._running[2:]])
            del self._from[1]

    def _price(self) -> None:
        """Set bound and stakes for the next value by the `rows` so far; here they stay."""

    def _settings(self) -> dict[str, Any]:
        """The constructor's arguments as JSON."""
        raise NotImplementedError

    @classmethod
    def _from_settings(cls, settings: dict[str, Any]) -> Self:
        raise NotImplementedError

    def merge(self, other: Self) -> None:
        """Add a replica's evidence: the sum of two e-detectors is one over all their values.

        Raises:
            InputError: the other has different settings.
        """
        if self._settings() != other._settings():
            raise InputError("Two detectors with different settings do not add up.")
        best = other._running.sum(axis=0) > self._running.sum(axis=0)
        rows = self.rows + other.rows
        behind = np.where(best, other.rows - other._start, self.rows - self._start)
        moments = [*self._from, *other._from]
        order = np.argsort(moments, kind="stable")
        self._running = np.concatenate([self._running, other._running])[order]
        self._from = [moments[place] for place in order]
        self._filled = COHORT  # the next value begins one
        self._fold()
        self.head_start += other.head_start  # both were given one: the threshold follows
        self._climb = np.where(best, other._climb, self._climb)
        self._start = rows - behind
        self.rows = rows
        self.total += other.total
        self.spacing.merge(other.spacing)
        self._price()
        self.drift_detected |= other.drift_detected or self.evidence >= self.threshold

    def to_json(self) -> str:
        """Settings and state as JSON."""
        return json.dumps(
            {
                "schema": SCHEMA,
                "detector": type(self).__name__,
                "settings": self._settings(),
                "rows": self.rows,
                "total": self.total,
                "head_start": self.head_start,
                "drift_detected": self.drift_detected,
                "spacing": self.spacing.to_json(),
                "running": self._running.tolist(),
                "from": self._from,
                "filled": self._filled,
                "climb": self._climb.tolist(),
                "start": self._start.tolist(),
            }
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ArtifactError: not this detector's state.
        """
        try:
            data = json.loads(text)
            if (data["schema"], data["detector"]) != (SCHEMA, cls.__name__):
                raise ValueError(f"{data['detector']} of schema {data['schema']}")
            detector = cls._from_settings(data["settings"])
            bets = len(detector._stakes)
            running = np.array(data["running"], dtype=np.float64).reshape(-1, bets)
            detector._running = running
            if "from" in data:  # earlier releases kept one cohort
                detector._from = [float(moment) for moment in data["from"]]
                detector._filled = int(data["filled"])
            if len(running) != len(detector._from):
                raise ValueError(f"{len(running)} cohorts with {len(detector._from)} moments")
            detector._climb = np.array(data["climb"], dtype=np.float64).reshape(bets)
            detector._start = np.array(data["start"], dtype=np.int64).reshape(bets)
            detector.rows = int(data["rows"])
            detector.total = float(data["total"])
            if "spacing" in data:  # earlier releases kept none
                detector.spacing = Spacing.from_json(data["spacing"])
            detector._price()
            detector.head_start = float(data["head_start"])
            detector.drift_detected = bool(data["drift_detected"])
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"The state of a {cls.__name__} cannot be read: {error}.",
                remedy="Start the detector afresh.",
            ) from None
        return detector

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self._settings().items())
        return f"{type(self).__name__}({given})"
