"""One model's live monitors: input drift, loss, champion against standby, challenger on trial.

Each detector belongs to what it compares: the input and loss detectors to the champion, the
guard to the pair of champion and standby, the trial to the pair of challenger and champion. A
new routing restarts those whose subject changed, and only those.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import numpy as np

from homeostat.clock import Clock
from homeostat.errors import HomeostatError
from homeostat.policy import Policy
from models.learner import Row
from monitoring.allocation import chance_better
from monitoring.breaks import find_breaks
from monitoring.estimates import Estimate
from monitoring.inputs import FeatureEvidence, InputDetector
from monitoring.losses import LossDetector
from monitoring.sequential import GuardDetector, PairedTest
from monitoring.signals import Signal, read_signal
from registry.evidence import EvidenceSample
from registry.input_counts import InputCounts
from registry.losses import LabelledLoss
from serving.answering import Answered
from serving.detectors import guard_detector, input_detector, loss_detector, paired_test
from serving.fleet import Split
from serving.moments import Moments
from serving.noted import Batch, Noted
from serving.recent import KEPT, Recent
from serving.runtime import Loaded

HARD_FAILURES = 3  # failing batches
HARD_WINDOW = timedelta(seconds=10)

INPUT, LOSS, GUARD, TRIAL = (
    "input-drift",
    "loss",
    "worse-than-standby",
    "trial",
)  # names of detectors
FAILURES = "hard-failure"

logger = logging.getLogger(__name__)


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


class Watch:
    """The detectors of one model.

    Args:
        model: The model's name.
        policy: Its budgets and tolerances.
        clock: Dates the batches.
    """

    def __init__(self, model: str, policy: Policy, clock: Clock) -> None:
        self.model = model
        self.recent_rows: Sequence[Row] = ()  # some of the last answered, as they came
        self._policy = policy
        self._clock = clock
        self._lock = threading.RLock()
        self._noted = Noted(model)
        self._champion: Loaded | None = None
        self.skipped = False
        """A routing was passed over: when the roles began is known to the database alone."""
        self._digests: tuple[str, ...] = ("", "", "")  # of champion, standby, challenger
        self._generation = 0  # that is followed
        # Labels that came under an earlier routing are not of these versions in their roles.
        self._began: dict[str, int] = {}
        self._standby = 0
        self._challenger = 0
        self._inputs: InputDetector | None = None
        self._losses: LossDetector | None = None
        self._guard: GuardDetector | None = None
        self._trial: PairedTest | None = None
        self._input_moments, self._loss_moments = Moments(), Moments()
        self._recent = Recent()
        self._failing: deque[datetime] = deque(maxlen=HARD_FAILURES)
        self._challenger_failures = self._challenger_answers = 0

    def follow(self, split: Split) -> None:
        """Restart the detectors whose subject this routing changes.

        A version that was restored under another number is the same subject.
        """
        before = self._digests
        self._digests = tuple(
            one.digest if one else "" for one in (split.champion, split.standby, split.challenger)
        )
        with self._lock:
            renewed = self._champion is None or before[0] != self._digests[0]
            self._champion = split.champion
            passed = 0 < self._generation < split.generation - 1
            self._generation = split.generation
            if split.generation < max(self._began.values(), default=0):  # the ledger was put back
                self._began = dict.fromkeys(self._began, split.generation)
            if renewed:
                self._began = dict.fromkeys(("champion", "standby", "challenger"), split.generation)
                profile = split.champion.profile
                self._inputs = input_detector(profile, self._policy)
                self._losses = loss_detector(profile, self._policy)
                self._input_moments, self._loss_moments = Moments(), Moments()
                self._recent.clear()
            standby = split.standby.version if split.standby else 0
            self._standby = standby
            if renewed or before[1] != self._digests[1]:
                self._began["standby"] = split.generation
                self._guard = guard_detector(self._policy) if standby else None
                self._failing.clear()
            challenger = split.challenger.version if split.challenger else 0
            self._challenger = challenger
            if renewed or before[2] != self._digests[2]:
                self._began["challenger"] = split.generation
                self._trial = paired_test(self._policy) if challenger else None
                self._challenger_failures = self._challenger_answers = 0
            self.skipped |= passed and before != self._digests

    def observe(self, split: Split, done: Answered) -> None:
        """Take note of a finished batch; called by the answering thread, so only noted."""
        at = self._clock()
        if done.observed is not None and done.outputs is not None:
            batch = Batch(at, split.champion, split.generation, done.observed, done.outputs)
            self._noted.note(batch)
            self.recent_rows = done.sample
        if done.champion_alone_failed:
            self._failing.append(at)
        if split.challenger is not None and split.challenger.version == self._challenger:
            self._challenger_failures += done.failures.get(split.challenger.version, 0)
            self._challenger_answers += done.rows_of(split.challenger.version)

    def shadow_failed(self, version: int) -> None:
        """A version that answers unseen failed a request."""
        if version == self._challenger:
            self._challenger_failures += 1

    def fold(self) -> None:
        """Count the batches noted since the last call, by window of time."""
        self._noted.fold()

    def counted(self, until: int | None = None) -> list[InputCounts]:
        """Take out what was counted in windows before one, of all noted so far; None: all."""
        return self._noted.take(until)

    def see(self, counts: InputCounts) -> None:
        """Feed the input detector with what all gateways counted in one window.

        Counts of another version, or of this one in an earlier time as champion, are passed over.
        """
        with self._lock:
            detector, champion = self._inputs, self._champion
            if detector is None or champion is None or champion.digest != counts.digest:
                return
            if counts.generation < self._began["champion"]:
                return
            try:
                own = counts.counts.reshape(len(champion.profile.columns), -1)
                rows = int(own[0].sum())  # fewer than were counted, where near ones are alike
                detector.update_counts(own, rows)
            except (HomeostatError, ValueError):  # counted by another release, with other bins
                logger.warning("%d rows of %s could not be watched", counts.rows, self.model)
                return
            self._input_moments.add(counts.at, rows)
            self._recent.add(counts.at, own)

    def label(self, rows: Sequence[LabelledLoss], generation: int | None = None) -> None:
        """Feed the detectors of losses, in the order in which the predictions were made.

        Args:
            rows: What each version lost.
            generation: Of the routing when their labels came: a detector whose subject took its
                role later is not fed. None: every one is.
        """
        with self._lock:
            if self._champion is None or self._losses is None:
                return
            of = {
                role: generation is None or generation >= began
                for role, began in self._began.items()
            }
            champion = self._champion.version
            own = [row for row in sorted(rows, key=lambda row: row.at) if champion in row.losses]
            if not own or not of["champion"]:
                return
            self._losses.update(np.array([row.losses[champion] for row in own]))
            for row in own:
                self._loss_moments.add(row.at)
            if self._guard is not None and of["standby"]:
                pairs = _differences(own, champion, self._standby)
                if len(pairs):
                    self._guard.update(pairs)
            if self._trial is not None and of["challenger"]:
                pairs = _differences(own, self._challenger, champion)
                if len(pairs):
                    self._trial.update(pairs)

    @property
    def trial(self) -> Trial | None:
        """How the challenger does so far, if there is one."""
        with self._lock:
            if self._trial is None:
                return None
            test = self._trial
            better = chance_better(test.n, test.total, test.squares)
            return Trial(test.decision, test.n, *test.interval(), better)

    @property
    def challenger_failures(self) -> int:
        """Requests that the challenger could not answer since it came."""
        return self._challenger_failures

    @property
    def challenger_answers(self) -> int:
        """Rows that the challenger answered in canary since it came, or this process started."""
        return self._challenger_answers

    @property
    def loss_drift(self) -> bool:
        """Whether the champion's losses have left their reference."""
        with self._lock:
            return self._losses is not None and self._losses.drift_detected

    @property
    def loss_bound(self) -> float | None:
        """The mean loss up to which the champion's counts as unchanged; None without a champion."""
        with self._lock:
            return self._losses.unchanged if self._losses is not None else None

    @property
    def healthy_loss(self) -> float | None:
        """The mean loss that the champion was judged by; None without a champion."""
        with self._lock:
            return self._losses.reference.mean if self._losses is not None else None

    def losses_seen(self) -> tuple[int, float]:
        """How many labels of the champion came since it serves, and the sum of their losses."""
        with self._lock:
            return (self._losses.rows, self._losses.total) if self._losses else (0, 0.0)

    def features(self) -> list[FeatureEvidence]:
        """How far each column of the champion's inputs and outputs is from its reference now."""
        with self._lock:
            if self._inputs is None or self._champion is None:
                return []
            names = [column.name for column in self._champion.profile.columns]
            return sorted(self._inputs.guilty(len(names)), key=lambda one: names.index(one.name))

    def estimate(self, start: datetime | None = None, end: datetime | None = None) -> Estimate:
        """The champion's mean loss on what it answered, without labels.

        Args:
            start: The first moment, at most an hour ago; None: so long ago.
            end: The first moment that is no longer taken; None: the present.
        """
        now = self._clock()
        with self._lock:
            counts = self._recent.within(start or now - KEPT, end or now)
            if self._champion is None or counts is None:
                return Estimate(0, None, trouble="Nothing was counted in that time.")
            return self._champion.profile.estimate(counts)

    def champion_signals(self) -> list[Signal]:
        """Signals that the champion left its reference: of its inputs, of its losses."""
        with self._lock:
            found = []
            inputs, losses = self._inputs, self._losses
            if inputs is not None and inputs.drift_detected:
                found.append(self._signal("input-drift", inputs))
            if losses is not None and losses.drift_detected:
                found.append(self._signal("loss", losses))
            return found

    def rollback_signal(self) -> Signal | None:
        """The signal that the standby does better: by its losses, or by not failing."""
        with self._lock:
            if self._guard is not None and self._guard.drift_detected:
                return self._signal("worse-than-standby", self._guard)
            now = self._clock()
            if self._standby and self._champion is not None and self._champion.fault:
                return _failed(1, 1.0, now, reason=self._champion.fault)
            recent = [at for at in self._failing if now - at <= HARD_WINDOW]
            if self._standby and len(recent) >= HARD_FAILURES:
                return _failed(len(recent), float(HARD_FAILURES), recent[0])
            return None

    def spacing(self) -> dict[str, int]:
        """Every how many rows, and labels, one is bet on: 1 where they come independently."""
        with self._lock:
            labels = self._losses.spacing.gap if self._losses is not None else 1
        return {"inputs": self._noted.gap, "labels": labels}

    def samples(self) -> list[EvidenceSample]:
        """The evidence of every detector now."""
        at = self._clock()
        with self._lock:
            if self._champion is None:
                return []
            version = self._champion.version
            present = ((INPUT, self._inputs), (LOSS, self._losses), (GUARD, self._guard))
            return [
                EvidenceSample(
                    self.model,
                    version,
                    name,
                    at,
                    float(one.evidence),
                    float(one.threshold),
                    int(one.rows),
                )
                for name, one in present
                if one is not None
            ]

    def states(self) -> dict[tuple[int, str], str]:
        """Each detector's state as JSON, by the version and name of what it judges."""
        with self._lock:
            if self._champion is None:
                return {}
            version = self._champion.version
            states: dict[tuple[int, str], str] = {}
            if self._inputs is not None:
                states[version, INPUT] = self._inputs.to_json()
            if self._losses is not None:
                states[version, LOSS] = self._losses.to_json()
            if self._guard is not None:
                states[version, f"{GUARD}:{self._standby}"] = self._guard.to_json()
            if self._trial is not None:
                states[self._challenger, f"{TRIAL}:{version}"] = self._trial.to_json()
            return states

    def restore(self, states: Mapping[tuple[int, str], str], began: Mapping[str, int]) -> None:
        """Take up the detectors where they were saved; those that were not start afresh.

        Args:
            states: As `states` gave them; what does not fit is left out.
            began: By role, the generation that gave the role to the version that has it.
        """
        with self._lock:
            if self._champion is None:
                return
            version, profile = self._champion.version, self._champion.profile
            policy = self._policy
            self._inputs = input_detector(profile, policy, states.get((version, INPUT)))
            self._losses = loss_detector(profile, policy, states.get((version, LOSS)))
            if self._guard is not None:
                saved = states.get((version, f"{GUARD}:{self._standby}"))
                self._guard = guard_detector(policy, saved)
            if self._trial is not None:
                saved = states.get((self._challenger, f"{TRIAL}:{version}"))
                self._trial = paired_test(policy, saved)
            self._input_moments, self._loss_moments = Moments(), Moments()
            self._began |= began
            self.skipped = False

    def _signal(
        self,
        kind: Literal["input-drift", "loss", "worse-than-standby"],
        detector: InputDetector | LossDetector | GuardDetector,
    ) -> Signal:
        breaks: list[dict[str, object]] = []
        if isinstance(detector, InputDetector) and self._champion is not None:
            columns = self._champion.profile.columns
            guilty = [vars(one) for one in detector.guilty(len(columns))]
            rows = self._noted.last(detector.since)
            found = find_breaks(guilty, columns, rows)
            breaks = [vars(one) for one in found]
        moments = self._input_moments if kind == "input-drift" else self._loss_moments
        since = moments.ago(detector.since, self._clock())
        more = {"breaks": breaks} if breaks else {}
        return read_signal(kind, detector, since_at=since.isoformat(), **more)


def _failed(count: int, threshold: float, since: datetime, **details: str) -> Signal:
    return Signal(
        kind="hard-failure",
        detector=FAILURES,
        evidence=float(count),
        threshold=threshold,
        rows=count,
        since=count,
        details={"since_at": since.isoformat(), **details},
    )


def _differences(
    rows: Sequence[LabelledLoss], first: int, second: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    pairs = [
        row.losses[first] - row.losses[second]
        for row in rows
        if first in row.losses and second in row.losses
    ]
    return np.array(pairs, dtype=np.float64)
