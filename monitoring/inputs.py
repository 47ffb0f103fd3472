"""Has what comes in, or what the model answers, moved away from the version's profile?"""

from __future__ import annotations

import json
import math
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homeostat.errors import ArtifactError, InputError
from monitoring.bets import Floats, robust_bet, total_variation
from monitoring.evidence import CAP, SCHEMA
from monitoring.guilt import FeatureEvidence, guilt_of
from monitoring.portfolio import ADAPTIVE_WEIGHT, Portfolio, reference_radius
from monitoring.profile import Profile
from monitoring.stakes import Stakes
from monitoring.watched import Watched

MICRO_BATCH = 8  # rows taken in one step of evidence
HALF_LIFE = 256.0  # rows after which a row counts half in the recent histogram
_LEARN_AFTER = 48.0  # rows in the recent histogram before it is bet on
_ALIKE = 160  # rows of an update up to which it gives what single rows would
_STEPS = 8  # of a larger update, whose steps are larger
_WINNING = 3.0  # log gain of a column's best bet from which its rows count as one episode
_ENOUGH = 16.0  # rows of an episode that are worth showing
_MAX_LOG = 200.0  # of one step's factor: finite even on top of CAP, and a smaller bet is fair


class InputDetector:
    r"""Detects that rows, predictions or confidences are no longer like the profile.

    It needs no label and says nothing about accuracy: use `LossDetector` for that.

    Unchanged means: each column within total variation `tolerance` of the distribution that the
    reference was drawn from. Each column carries a portfolio of bets f on its bins
    (`monitoring.portfolio`), paid for by what reference and rows so far say of their mean
    (`monitoring.stakes`), and one that learns from the recent rows. Evidence is a
    Shiryaev-Roberts e-detector per bet,

    .. math:: R \leftarrow (R + m) \prod_{i \le m} f(x_i) / \text{cost},

    averaged with fixed weights over bets and columns. An average of e-detectors is one under any
    dependence between columns, so one budget serves all: a false alarm takes at least `budget`
    rows in the mean over what the reference leaves open, but for one reference in a hundred.
    docs/monitoring.md derives it. Rows are taken as independent in time: thin them by
    `monitoring.dependence` where they may not be. Changes of the joint distribution alone are seen
    only as far as they move predictions or confidence.

    A detection stays until `reset`; evidence goes on, and falls when the change passes.

    Args:
        profile: The version's profile.
        budget: At most one false alarm in so many rows.
        tolerance: Total variation of one column that is not worth an alarm, in [0, 1).

    Raises:
        InputError: a budget or tolerance that cannot be meant.

    Example:
        >>> import numpy as np
        >>> from homeostat.schema import Feature
        >>> rng = np.random.default_rng(7)
        >>> rows, out = rng.normal(size=(2_000, 1)), np.zeros(2_000)
        >>> profile = Profile.from_reference([Feature("x")], "classification", rows, out, out, out)
        >>> detector = InputDetector(profile, budget=100_000, tolerance=0.1)
        >>> detector.update(rng.normal(size=(320, 1)), out[:320], out[:320])
        >>> detector.drift_detected
        False
        >>> detector.update(rng.normal(1.5, 1.0, size=(160, 1)), out[:160], out[:160])
        >>> detector.drift_detected, detector.guilty(1)[0].name
        (True, 'x')

    References:
        Shin, Ramdas, Rinaldo, *E-detectors* (2022); Ferguson, *A Bayesian analysis of some
        nonparametric problems* (1973); Huber, *A robust version of the probability
        ratio test* (1965); Saha and Ramdas, *Huber-robust likelihood ratio tests* (2024).
    """

    def __init__(self, profile: Profile, budget: int, tolerance: float) -> None:
        if budget < 1 or not 0.0 <= tolerance < 1.0:
            raise InputError(f"Budget {budget} with tolerance {tolerance} cannot be kept.")
        self.profile = profile
        self.budget = budget
        self.tolerance = tolerance
        counts = profile.reference_counts.astype(np.float64)
        self._sizes = counts.sum(axis=1)
        self._reference = counts / np.maximum(self._sizes, 1.0)[:, None]
        widths = np.array([column.width for column in profile.columns])
        exists = np.arange(counts.shape[1]) < widths[:, None]
        self._prior = (counts + 0.5 * exists) / (counts + 0.5 * exists).sum(axis=1, keepdims=True)
        self._radius = tolerance + reference_radius(self._sizes, widths)
        portfolio = Portfolio.of(profile.columns, counts, tolerance)
        columns = len(widths)
        self._stakes = Stakes.of(portfolio, counts, tolerance)
        # The last C entries of every array of bets are the columns' learning bets.
        self._owner = np.concatenate([portfolio.owner, np.arange(columns)])
        self._weight = (
            np.concatenate([portfolio.weight, np.full(columns, ADAPTIVE_WEIGHT)]) / columns
        )
        self.reset()

    def reset(self) -> None:
        """Forget all rows; profile and settings stay."""
        self.rows = 0
        self.drift_detected = False
        self._running = np.zeros(len(self._owner))
        self._climb = np.zeros(len(self._owner))
        self._start = np.zeros(len(self._owner), dtype=np.int64)
        self._pool = np.zeros(self._reference.shape, dtype=np.int64)
        self._recent = np.zeros_like(self._reference)
        self._episode = np.zeros_like(self._reference)
        self._pending = np.zeros(self._reference.shape, dtype=np.int64)
        self._waiting = 0

    @property
    def threshold(self) -> float:
        """The log evidence at which drift is detected."""
        return math.log(self.budget)

    @property
    def evidence(self) -> float:
        """Log of the running evidence, at least 0."""
        return math.log(max(float(self._weight @ self._running), 1.0))

    @property
    def since(self) -> int:
        """Estimated number of rows since the change: the start of the best bet's climb."""
        if not self.rows:
            return 0
        best = int((self._weight * self._running).argmax())
        return self.rows - int(self._start[best])

    def update(self, observed: ArrayLike, predicted: ArrayLike, confidence: ArrayLike) -> None:
        """Take a batch of any size; a value that is not finite counts as missing.

        Args:
            observed: (m, F), as `Learner.observe` gives.
            predicted: (m,), as `Learner.predicted` gives.
            confidence: (m,), as `Learner.confidence` gives.

        Raises:
            InputError: a shape that is not the profile's; nothing is taken then.
        """
        watched = Watched.of(observed, predicted, confidence, len(self.profile.features))
        if not len(watched):
            return
        sizes = self._cut(len(watched))
        counts = self.profile.count_cut(watched, sizes)
        counts[0] += self._pending
        sizes[0] += self._waiting
        self.rows -= self._waiting  # counted again with their step
        if sizes[-1] < MICRO_BATCH:
            self._pending, self._waiting = counts[-1], sizes[-1]
            counts, sizes = counts[:-1], sizes[:-1]
        else:
            self._pending, self._waiting = np.zeros_like(counts[0]), 0
        if sizes:
            self._steps(counts, sizes)
        self.rows += self._waiting

    def update_counts(self, counts: ArrayLike, rows: int) -> None:
        """Take rows that were counted elsewhere, as one step, or none before there are enough.

        However the same rows were split when they were counted, their sums are the same evidence.

        Args:
            counts: (C, B) rows in each bin, as `Profile.counts` gives.
            rows: How many they are.

        Raises:
            InputError: a shape that is not the profile's; nothing is taken then.
        """
        given = np.asarray(counts, dtype=np.int64)
        if given.shape != self._pending.shape:
            raise InputError(f"Counts of shape {given.shape} do not fit {self._pending.shape}.")
        size, taken = self._waiting + int(rows), self._pending + given
        self.rows -= self._waiting  # counted again with their step
        whole = size >= MICRO_BATCH
        self._pending, self._waiting = (np.zeros_like(taken), 0) if whole else (taken, size)
        if whole:
            self._steps(taken[None], [size])
        self.rows += self._waiting

    def _cut(self, rows: int) -> list[int]:
        """Where an update's rows are cut into steps, which the waiting rows fill up first."""
        step = MICRO_BATCH if rows <= _ALIKE else -(-rows // _STEPS)
        sizes = [min(rows, step - min(self._waiting, step - 1))]
        whole, rest = divmod(rows - sizes[0], step)
        return sizes + [step] * whole + ([rest] if rest else [])

    def guilty(self, k: int = 5) -> list[FeatureEvidence]:
        """The k columns with the most evidence, the largest first.

        Shares are those of the rows since the column's evidence began to climb, or, while
        nothing climbs, of the recent rows.
        """
        sums = np.bincount(self._owner, self._weight * self._running) * len(self._sizes)
        lasting = self._episode.sum(axis=1, keepdims=True) >= _ENOUGH
        recent = np.where(lasting, self._episode, self._recent) + self._pending
        seen = recent / np.maximum(recent.sum(axis=1, keepdims=True), 1.0)
        distance = total_variation(seen, self._reference)
        order = sorted(range(len(sums)), key=lambda i: (-sums[i], -distance[i]))[:k]
        if not self.rows:
            seen, distance = self._reference, np.zeros(len(sums))
        return [
            guilt_of(
                self.profile.columns[i],
                float(sums[i]),
                self._reference[i],
                seen[i],
                float(distance[i]),
            )
            for i in order
        ]

    def merge(self, other: InputDetector) -> None:
        """Add a replica's evidence: the sum of two e-detectors is one over all their rows.

        Raises:
            InputError: the other has another profile or other settings.
        """
        if self._settings() != other._settings():
            raise InputError("Two detectors with different settings do not add up.")
        rows = self.rows + other.rows
        best = other._running > self._running
        behind = np.where(best, other.rows - other._start, self.rows - self._start)
        self._running = np.minimum(self._running + other._running, CAP)
        self._climb = np.where(best, other._climb, self._climb)
        self._start = rows - behind
        self._pool += other._pool
        self._recent += other._recent
        self._episode += other._episode
        self._pending += other._pending
        self._waiting += other._waiting
        self.rows = rows
        self.drift_detected |= other.drift_detected or self.evidence >= self.threshold

    def to_json(self) -> str:
        """Profile, settings and state as JSON."""
        state = {name: getattr(self, f"_{name}").tolist() for name in _ARRAYS}
        return json.dumps(
            {
                "schema": SCHEMA,
                "detector": "InputDetector",
                "settings": self._settings(),
                "rows": self.rows,
                "waiting": self._waiting,
                "drift_detected": self.drift_detected,
                **state,
            }
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ArtifactError: not an input detector's state.
        """
        try:
            data = json.loads(text)
            if (data["schema"], data["detector"]) != (SCHEMA, "InputDetector"):
                raise ValueError(f"{data['detector']} of schema {data['schema']}")
            given = data["settings"]
            profile = Profile.from_json(given["profile"])
            detector = cls(profile, int(given["budget"]), float(given["tolerance"]))
            for name in _ARRAYS:
                fresh: NDArray[Any] = getattr(detector, f"_{name}")
                setattr(
                    detector, f"_{name}", np.array(data[name], fresh.dtype).reshape(fresh.shape)
                )
            detector.rows = int(data["rows"])
            detector._waiting = int(data["waiting"])
            detector.drift_detected = bool(data["drift_detected"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"The state of an InputDetector cannot be read: {error}.",
                remedy="Start the detector afresh.",
            ) from None
        return detector

    def _settings(self) -> dict[str, Any]:
        profile = self.profile.to_json()
        return {"profile": profile, "budget": self.budget, "tolerance": self.tolerance}

    def _steps(self, counts: NDArray[np.int64], sizes: list[int]) -> None:
        """Take steps of evidence.

        Args:
            counts: (S, C, B) rows of each step in each bin.
            sizes: The rows of each step.
        """
        taken = counts.astype(np.float64)
        recent = np.empty((len(sizes) + 1, *self._recent.shape))
        recent[0] = self._recent
        for index, m in enumerate(sizes):
            np.multiply(recent[index], 0.5 ** (m / HALF_LIFE), out=recent[index + 1])
            recent[index + 1] += taken[index]
        learnt, active = self._learnt(recent[:-1], taken)
        self._recent = recent[-1]
        won = self._stakes.gains(self._pool.astype(np.float64), self.rows, taken, sizes)
        self._pool += counts.sum(axis=0)
        gains = np.concatenate([won, learnt], axis=1)
        fed = np.empty_like(gains)
        fed[:] = np.array(sizes)[:, None]
        # A learning bet with nothing to bet on stays where it is: fed, it would idle upwards.
        fed[:, won.shape[1] :] *= active
        climbing = self._stakes.highest(self._climbed(gains, sizes)) > _WINNING
        for rows, stays in zip(taken, climbing[..., None], strict=True):
            self._episode += rows
            self._episode *= stays
        evidence = self._run(gains, fed) @ self._weight
        self.rows += sum(sizes)
        self.drift_detected |= math.log(max(float(evidence.max()), 1.0)) >= self.threshold

    def _climbed(self, gains: Floats, sizes: list[int]) -> Floats:
        """How far each bet has climbed after each step, (S, bets); notes since when."""
        climbs, climb, rows = np.empty_like(gains), self._climb, self.rows
        for step, m in enumerate(sizes):
            np.copyto(self._start, rows, where=climb <= 0.0)
            climb = np.maximum(climb, 0.0, out=climbs[step])
            climb += gains[step]
            rows += m
        self._climb = climbs[-1].copy()
        return climbs

    def _run(self, gains: Floats, fed: Floats) -> Floats:
        """Each bet's evidence after each step, (S, bets), of what it is fed and then wins."""
        factors = np.exp(np.minimum(gains, _MAX_LOG))
        runs, running = np.empty_like(gains), self._running
        for step, factor in enumerate(factors):
            running = np.add(running, fed[step], out=runs[step])
            running *= factor
            np.minimum(running, CAP, out=running)
        self._running = runs[-1].copy()
        return runs

    def _learnt(self, recent: Floats, counts: Floats) -> tuple[Floats, Floats]:
        """Log factors (S, C) of bets on the recent histograms, and which columns bet (S, C).

        Args:
            recent: (S, C, B) recent rows before each step.
            counts: (S, C, B) rows of each step.
        """
        seen = recent.sum(axis=2)
        guess = 0.95 * recent / np.maximum(seen, 1.0)[..., None] + 0.05 * self._prior
        active = total_variation(guess, self._reference) > self._radius
        active &= seen.max(axis=1, keepdims=True) >= _LEARN_AFTER
        gain = np.zeros(seen.shape)
        if active.any():
            column = np.nonzero(active)[1]
            bets = robust_bet(guess[active], self._reference[column], self._radius[column])
            gain[active] = (np.log(bets) * counts[active]).sum(axis=1)
        return gain, active.astype(np.float64)

    def __repr__(self) -> str:
        return f"InputDetector({self.profile.rows} rows, {self.budget!r}, {self.tolerance!r})"


_ARRAYS = ("running", "climb", "start", "pool", "recent", "episode", "pending")
