"""One model's live monitors: input drift, loss, champion against standby, challenger on trial.

Each detector belongs to what it compares: the input and loss detectors to the champion, the
guard to the pair of champion and standby, the trial to the pair of challenger and champion. A
new routing restarts those whose subject changed, and only those.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from homeostat.clock import Clock
from homeostat.errors import HomeostatError
from homeostat.policy import Policy
from models.learner import Row
from monitoring.estimates import Estimate
from monitoring.guilt import FeatureEvidence
from monitoring.open_set import OpenSet
from monitoring.signals import Signal
from registry.evidence import EvidenceSample
from registry.input_counts import InputCounts
from registry.losses import LabelledLoss
from serving.answering import Answered
from serving.detectors import Detectors, Trial
from serving.failures import Failures
from serving.fleet import Split
from serving.noted import Batch, Noted
from serving.recent import KEPT
from serving.runtime import Loaded

logger = logging.getLogger(__name__)


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
        self._on = Detectors(policy)
        self._failures = Failures()

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
                self._on.watch(split.champion.profile)
            self._standby = split.standby.version if split.standby else 0
            if renewed or before[1] != self._digests[1]:
                self._began["standby"] = split.generation
                self._on.compare(standby=bool(self._standby))
                self._failures.forget_champion()
            self._challenger = split.challenger.version if split.challenger else 0
            if renewed or before[2] != self._digests[2]:
                self._began["challenger"] = split.generation
                self._on.try_out(challenger=bool(self._challenger))
                self._failures.forget_challenger()
            self.skipped |= passed and before != self._digests

    def observe(self, split: Split, done: Answered) -> None:
        """Take note of a finished batch; called by the answering thread, so only noted."""
        at = self._clock()
        if done.observed is not None and done.outputs is not None:
            batch = Batch(at, split.champion, split.generation, done.observed, done.outputs)
            self._noted.note(batch)
            self.recent_rows = done.sample
        ours = split.challenger is not None and split.challenger.version == self._challenger
        self._failures.note(done, at, self._challenger if ours else 0)

    def shadow_failed(self, version: int) -> None:
        """A version that answers unseen failed a request."""
        if version == self._challenger:
            self._failures.challenger += 1

    def fold(self) -> None:
        """Count the batches noted since the last call, by window of time."""
        self._noted.fold()

    def counted(self, until: int | None = None) -> list[InputCounts]:
        """Take out what was counted in windows before one, of all noted so far; None: all."""
        return self._noted.take(until)

    def see(self, counts: InputCounts, *, again: bool = False) -> None:
        """Feed the input detector with what all gateways counted in one window.

        Again: a gateway that has begun looks back; the detector, as it was saved, has seen them.
        Counts of another version, or of this one in an earlier time as champion, are passed over.
        """
        with self._lock:
            champion = self._champion
            if champion is None or champion.digest != counts.digest:
                return
            if counts.generation < self._began["champion"]:
                return
            try:
                own = counts.counts.reshape(len(champion.profile.columns), -1)
                rows = int(own[0].sum())  # fewer than were counted, where near ones are alike
                if again:
                    self._on.recall(counts.at, own)
                else:
                    self._on.count(counts.at, own, rows)
            except (HomeostatError, ValueError):  # counted by another release, with other bins
                logger.warning("%d rows of %s could not be watched", counts.rows, self.model)

    def concerned(self, generation: int) -> bool:
        """Whether labels that came under a routing are of any version in the role it has now."""
        with self._lock:
            return generation >= min(self._began.values(), default=0)

    def label(
        self,
        rows: Sequence[LabelledLoss],
        generation: int | None = None,
        share: float = 1.0,
        *,
        late: bool = False,
    ) -> None:
        """Feed the detectors of losses, in the order in which the predictions were made.

        Args:
            rows: What each version lost.
            share: Of the labels of predictions made then that are in.
            late: Whether labels of their time were bet on before: these are then no evidence.
            generation: Of the routing when their labels came: a detector whose subject took its
                role later is not fed. None: every one is.
        """
        with self._lock:
            if self._champion is None:
                return
            of = {r: generation is None or generation >= n for r, n in self._began.items()}
            champion = self._champion.version
            own = [row for row in sorted(rows, key=lambda row: row.at) if champion in row.losses]
            if not own or not of["champion"]:
                return
            self._on.lose(own, champion, share, late=late)
            if late:
                return
            standby = self._standby if of["standby"] else 0
            challenger = self._challenger if of["challenger"] else 0
            self._on.pair(own, (champion, standby, challenger))

    @property
    def trial(self) -> Trial | None:
        """How the challenger does so far, if there is one."""
        with self._lock:
            return self._on.verdict()

    @property
    def comparing(self) -> bool:
        """Whether there is a standby or a challenger."""
        return bool(self._standby or self._challenger)

    @property
    def challenger_failures(self) -> int:
        """Requests that the challenger could not answer since it came."""
        return self._failures.challenger

    @property
    def challenger_answers(self) -> int:
        """Rows that the challenger answered in canary since it came, or this process started."""
        return self._failures.answers

    @property
    def loss_drift(self) -> bool:
        """Whether the champion's losses have left their reference."""
        with self._lock:
            return self._on.losses is not None and self._on.losses.drift_detected

    @property
    def loss_bound(self) -> float | None:
        """The mean loss up to which the champion's counts as unchanged; None without a champion."""
        with self._lock:
            return self._on.losses.unchanged if self._on.losses is not None else None

    @property
    def judged_until(self) -> datetime | None:
        """The newest prediction whose label counts; None: not known, or none does."""
        return self._on.judged_until

    @property
    def healthy_loss(self) -> float | None:
        """The mean loss that the champion was judged by; None without a champion."""
        with self._lock:
            return self._on.losses.reference.mean if self._on.losses is not None else None

    def losses_seen(self) -> tuple[int, float]:
        """How many labels of the champion came since it serves, and the sum of their losses."""
        with self._lock:
            return (self._on.losses.rows, self._on.losses.total) if self._on.losses else (0, 0.0)

    def features(self) -> list[FeatureEvidence]:
        """How far each column of the champion's inputs and outputs is from its reference now."""
        with self._lock:
            if self._on.inputs is None or self._champion is None:
                return []
            names = [column.name for column in self._champion.profile.columns]
            return sorted(self._on.inputs.guilty(len(names)), key=lambda one: names.index(one.name))

    def estimate(self, start: datetime | None = None, end: datetime | None = None) -> Estimate:
        """The champion's mean loss on what it answered, without labels.

        Args:
            start: The first moment, at most an hour ago; None: so long ago.
            end: The first moment that is no longer taken; None: the present.
        """
        now = self._clock()
        with self._lock:
            counts = self._on.recent.within(start or now - KEPT, end or now)
            if self._champion is None or counts is None:
                return Estimate(0, None, trouble="Nothing was counted in that time.")
            return self._champion.profile.estimate(counts)

    def open_set(self) -> OpenSet:
        """The share of what the champion answered in the last hour that is of no known class."""
        now = self._clock()
        with self._lock:
            counts = self._on.recent.within(now - KEPT, now)
            if self._champion is None or counts is None:
                return OpenSet(0, None, trouble="Nothing was counted in that time.")
            return self._champion.profile.open_set(counts)

    def champion_signals(self) -> list[Signal]:
        """Signals that the champion left its reference: of its inputs, of its losses."""
        with self._lock:
            kinds: tuple[Literal["input-drift", "loss"], ...] = ("input-drift", "loss")
            found = [self._signal(kind) for kind in kinds]
            return [one for one in found if one is not None]

    def rollback_signal(self) -> Signal | None:
        """The signal that the standby does better: by its losses, or by not failing."""
        with self._lock:
            if (found := self._signal("worse-than-standby")) is not None:
                return found
            if not self._standby or self._champion is None:
                return None
            return self._failures.signal(self._champion.fault, self._clock())

    def spacing(self) -> dict[str, int]:
        """Every how many rows, and labels, one is bet on: 1 where they come independently."""
        with self._lock:
            labels = self._on.losses.spacing.gap if self._on.losses is not None else 1
        return {"inputs": self._noted.gap, "labels": labels}

    def samples(self) -> list[EvidenceSample]:
        """The evidence of every detector now."""
        at = self._clock()
        with self._lock:
            if self._champion is None:
                return []
            return self._on.samples(self.model, self._champion.version, at)

    def states(self) -> dict[tuple[int, str], str]:
        """Each detector's state as JSON, by the version and name of what it judges."""
        with self._lock:
            if self._champion is None:
                return {}
            return self._on.states(self._versions())

    def restore(self, states: Mapping[tuple[int, str], str], began: Mapping[str, int]) -> None:
        """Take up the detectors where they were saved; those that were not start afresh.

        Args:
            states: As `states` gave them; what does not fit is left out.
            began: By role, the generation that gave the role to the version that has it.
        """
        with self._lock:
            if self._champion is None:
                return
            self._on.restore(self._champion.profile, self._versions(), states)
            self._began |= began
            self.skipped = False

    def _versions(self) -> tuple[int, int, int]:
        """Of champion, standby and challenger; 0: there is none."""
        champion = self._champion.version if self._champion else 0
        return champion, self._standby, self._challenger

    def _signal(self, kind: Literal["input-drift", "loss", "worse-than-standby"]) -> Signal | None:
        if self._champion is None:
            return None
        return self._on.signal(kind, self._champion.profile, self._noted, self._clock())
