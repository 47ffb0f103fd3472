"""The detectors of one model, each taken up where a gateway saved it, or made afresh."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from homeostat.errors import HomeostatError
from homeostat.policy import Policy
from monitoring.allocation import chance_better
from monitoring.breaks import find_breaks
from monitoring.inputs import InputDetector
from monitoring.losses import LossDetector
from monitoring.profile import Profile
from monitoring.sequential import GuardDetector, PairedTest
from monitoring.signals import Signal, read_signal
from registry.evidence import EvidenceSample
from registry.losses import LabelledLoss
from serving.moments import Moments
from serving.noted import Noted
from serving.recent import Recent

INPUT, LOSS, GUARD, TRIAL = (
    "input-drift",
    "loss",
    "worse-than-standby",
    "trial",
)  # names of detectors
Kept = TypeVar("Kept", InputDetector, LossDetector, GuardDetector, PairedTest)

logger = logging.getLogger(__name__)


def input_detector(profile: Profile, policy: Policy, state: str | None = None) -> InputDetector:
    """Whether the inputs of a version left its profile."""
    rules = policy.monitor
    return _read(InputDetector, state) or InputDetector(
        profile, rules.budget_predictions, rules.tolerance_inputs
    )


def loss_detector(profile: Profile, policy: Policy, state: str | None = None) -> LossDetector:
    """Whether the losses of a version left its profile."""
    rules = policy.monitor
    return _read(LossDetector, state) or LossDetector(
        profile.loss_reference, rules.budget_labels, rules.tolerance_loss
    )


def guard_detector(policy: Policy, state: str | None = None) -> GuardDetector:
    """Whether the champion is worse than its standby."""
    rules = policy.rollback
    return _read(GuardDetector, state) or GuardDetector(rules.budget_labels, rules.tolerance)


def paired_test(policy: Policy, state: str | None = None) -> PairedTest:
    """Whether the challenger is not worse than the champion, or worse."""
    rules = policy.rollout
    return _read(PairedTest, state) or PairedTest(rules.margin, rules.error_rate)


def _read(kind: type[Kept], state: str | None) -> Kept | None:
    """A saved detector, or None where there is none that fits."""
    if state is None:
        return None
    try:
        return kind.from_json(state)
    except HomeostatError as error:
        logger.warning("a saved detector is left out: %s", error)
        return None


@dataclass(frozen=True)
class Trial:
    """How the challenger does against the champion on the rows that both answered.

    `better` is the posterior probability that it is the better one (`monitoring.allocation`).
    """

    decision: Literal["continue", "not-worse", "worse"]
    rows: int
    low: float
    high: float
    better: float = 0.5


class Detectors:
    """What watches a champion, and what compares it with its standby and its challenger.

    A detector whose subject there is none of is None. How far apart labels have to be to count as
    independent is a matter of the traffic, so what begins anew takes it from the champion's losses.

    Args:
        policy: Budgets and tolerances.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.inputs: InputDetector | None = None
        self.losses: LossDetector | None = None
        self.guard: GuardDetector | None = None
        self.trial: PairedTest | None = None
        self.recent = Recent()
        self.judged_until: datetime | None = None
        """When the newest prediction was made whose loss was taken."""
        self._moments = {INPUT: Moments(), LOSS: Moments()}

    def watch(self, profile: Profile) -> None:
        """Watch another champion."""
        before = self.losses
        self._begin(profile, None, None)
        if self.losses is not None and before is not None:
            self.losses.spacing.merge(before.spacing)
        self.recent.clear()

    def compare(self, *, standby: bool) -> None:
        """Compare the champion with another standby, or with none."""
        self.guard = guard_detector(self._policy) if standby else None
        if self.guard is not None and self.losses is not None:
            self.guard.spacing.merge(self.losses.spacing)

    def try_out(self, *, challenger: bool) -> None:
        """Compare the champion with another challenger, or with none."""
        self.trial = paired_test(self._policy) if challenger else None
        if self.trial is not None and self.losses is not None:
            self.trial.spacing.merge(self.losses.spacing)

    def count(self, at: datetime, counts: NDArray[np.int64], rows: int) -> None:
        """Take rows of the champion's inputs and outputs, counted by (C, B)."""
        if self.inputs is not None:
            self.inputs.update_counts(counts, rows)
            self._moments[INPUT].add(at, rows)
            self.recent.add(at, counts)

    def recall(self, at: datetime, counts: NDArray[np.int64]) -> None:
        """Take counts that the detectors have seen already, for what was lately; (C, B)."""
        self.recent.add(at, counts)

    def lose(
        self, rows: Sequence[LabelledLoss], champion: int, share: float, *, late: bool
    ) -> None:
        """Take losses of the champion; the arguments are those of `serving.watch.Watch.label`."""
        if self.losses is not None:
            lost = np.array([row.losses[champion] for row in rows])
            self.losses.update(lost, share, bet=not late, moments=_moments(rows))
            for row in rows:
                self._moments[LOSS].add(row.at)
            self.judged_until = max(row.at for row in rows)

    def pair(self, rows: Sequence[LabelledLoss], versions: tuple[int, int, int]) -> None:
        """Take what champion and standby, or challenger and champion, lost on the same rows.

        Args:
            rows: What each version lost.
            versions: Of champion, standby and challenger; 0: not to be compared on these.
        """
        champion, standby, challenger = versions
        if self.guard is not None and (both := _of_both(rows, champion, standby)):
            self.guard.update(_differences(both, champion, standby), _moments(both))
        if self.trial is not None and (both := _of_both(rows, challenger, champion)):
            self.trial.update(_differences(both, challenger, champion))

    def verdict(self) -> Trial | None:
        """How the challenger does so far, if there is one."""
        if self.trial is None:
            return None
        test = self.trial
        better = chance_better(test.n, test.total, test.squares)
        return Trial(test.decision, test.n, *test.interval(), better)

    def states(self, versions: tuple[int, int, int]) -> dict[tuple[int, str], str]:
        """The state of each as JSON, by the version and the name of what it judges.

        Args:
            versions: Of champion, standby and challenger.
        """
        return {
            key: one.to_json()
            for key, one in zip(_keys(versions), self._all(), strict=True)
            if one is not None
        }

    def restore(
        self,
        profile: Profile,
        versions: tuple[int, int, int],
        states: Mapping[tuple[int, str], str],
    ) -> None:
        """Take up where `states` left; what does not fit starts afresh."""
        inputs, losses, guard, trial = (states.get(key) for key in _keys(versions))
        self._begin(profile, inputs, losses)
        self.recent.clear()
        if self.guard is not None:
            self.guard = guard_detector(self._policy, guard)
        if self.trial is not None:
            self.trial = paired_test(self._policy, trial)

    def samples(self, model: str, version: int, at: datetime) -> list[EvidenceSample]:
        """The evidence of all but the trial."""
        return [
            EvidenceSample(
                model, version, name, at, float(one.evidence), float(one.threshold), int(one.rows)
            )
            for name, one in ((INPUT, self.inputs), (LOSS, self.losses), (GUARD, self.guard))
            if one is not None
        ]

    def signal(
        self,
        kind: Literal["input-drift", "loss", "worse-than-standby"],
        profile: Profile,
        noted: Noted,
        now: datetime,
    ) -> Signal | None:
        """The signal of one that has detected something."""
        detector = {INPUT: self.inputs, LOSS: self.losses, GUARD: self.guard}[kind]
        if detector is None or not detector.drift_detected:
            return None
        breaks: list[dict[str, object]] = []
        if isinstance(detector, InputDetector):
            guilty = [vars(one) for one in detector.guilty(len(profile.columns))]
            found = find_breaks(guilty, profile.columns, noted.last(detector.since))
            breaks = [vars(one) for one in found]
        moments = self._moments[INPUT if kind == INPUT else LOSS]
        since = moments.ago(detector.since, now)
        more = {"breaks": breaks} if breaks else {}
        return read_signal(kind, detector, since_at=since.isoformat(), **more)

    def _begin(self, profile: Profile, inputs: str | None, losses: str | None) -> None:
        self.inputs = input_detector(profile, self._policy, inputs)
        self.losses = loss_detector(profile, self._policy, losses)
        self._moments = {INPUT: Moments(), LOSS: Moments()}
        self.judged_until = None

    def _all(
        self,
    ) -> tuple[InputDetector | None, LossDetector | None, GuardDetector | None, PairedTest | None]:
        return self.inputs, self.losses, self.guard, self.trial


def _keys(versions: tuple[int, int, int]) -> tuple[tuple[int, str], ...]:
    champion, standby, challenger = versions
    return (
        (champion, INPUT),
        (champion, LOSS),
        (champion, f"{GUARD}:{standby}"),
        (challenger, f"{TRIAL}:{champion}"),
    )


def _of_both(rows: Sequence[LabelledLoss], first: int, second: int) -> list[LabelledLoss]:
    """The rows that two versions answered."""
    return [row for row in rows if first in row.losses and second in row.losses]


def _differences(rows: Sequence[LabelledLoss], first: int, second: int) -> NDArray[np.float64]:
    return np.array([row.losses[first] - row.losses[second] for row in rows], dtype=np.float64)


def _moments(rows: Sequence[LabelledLoss]) -> list[float]:
    """When they were predicted, in seconds."""
    return [row.at.timestamp() for row in rows]
