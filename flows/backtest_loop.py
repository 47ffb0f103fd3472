"""The loop in a backtest: the product's own detectors, learning and gates, in rows for time.

What is left out of the live loop: documents and probe (nothing is stored or loaded), shadow and
canary (a version that passes the gates answers from the next batch on), and the rollback.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from flows.backtest import Course, Labelled, Serving, Tally, part
from flows.judging import Judged, build_profile, judge_regimes
from flows.learning import Champion, Trained, remember, train_afresh
from flows.lessons import FIRST_REGIME, Lesson, first_lesson, next_lesson
from flows.rows import MAX_ROWS
from flows.trials import stricter, train_by_policy
from homeostat.errors import DataError
from homeostat.policy import Policy
from models.data import Dataset
from models.evaluate import Evaluation
from models.torch_learner import guarded
from monitoring.inputs import InputDetector
from monitoring.losses import LossDetector
from monitoring.profile import Profile
from monitoring.recovery import Recovery, Try, gained
from registry.gate_evidence import Contender, Evidence
from registry.gates import judge

DAY = 86_400.0
_AT = datetime(1970, 1, 1, tzinfo=UTC)  # of verdicts that nobody keeps


class Homeostat:
    """Retrains at a loss signal by the policy, and until the loss of before is reached again.

    Args:
        dataset: The stream.
        policy: Of the model.
        course: How the stream is replayed; its warm-up trains version 1.
        folder: Where memories are kept meanwhile.
    """

    name = "homeostat"

    def __init__(self, dataset: Dataset, policy: Policy, course: Course, folder: Path) -> None:
        course.check(len(dataset))
        self.tally = Tally()
        self._dataset, self._policy, self._course = dataset, policy, course
        self._folder = folder
        self._recovery: Recovery | None = None
        self._regime = FIRST_REGIME
        self._ended: list[int] = []  # rows before which retrains ended, refused ones too
        trained = train_afresh(first_lesson(part(dataset, 0, course.warmup), policy), policy, None)
        self._take_over(trained, judge_regimes(trained, None), None, course.warmup)

    def answered(self, start: int, stop: int, evaluation: Evaluation) -> None:
        """Watch inputs and answers; an input signal is an alarm, and no retrain."""
        self._answered = stop
        learner = self._champion.learner
        before = self._inputs.drift_detected
        rows = guarded(learner.encode, self._dataset.rows[start:stop])
        self._inputs.update(
            guarded(learner.observe, rows),
            guarded(learner.predicted, evaluation.outputs),
            guarded(learner.confidence, evaluation.outputs),
        )
        if self._inputs.drift_detected and not before:
            self.tally.alarms.append(stop)

    def labelled(self, rows: Labelled) -> None:
        """Watch the losses of the version that answers, and retrain when it is due."""
        own = rows.losses[
            max(self._since - rows.start, 0) :
        ]  # labels of versions before say nothing of it
        before = self._losses.drift_detected
        self._losses.update(own)
        if self._losses.drift_detected and not before:
            self.tally.alarms.append(rows.stop)
            self._open(rows.stop - self._losses.since)
        if self._recovery and self._recovery.due(rows.stop, self._policy.retrain.min_labels):
            if self._is_well(self._recovery):
                self._recovery = None
            else:
                self._retrain(self._recovery, rows.stop)

    def _is_well(self, recovery: Recovery) -> bool:
        """Whether what a retrain made does as well as before by now, by all that it answered."""
        if recovery.learnt is None or not self._losses.rows:
            return False
        mean = self._losses.total / self._losses.rows
        return recovery.well(mean, self._policy.monitor.tolerance_loss)

    def _open(self, change: int) -> None:
        """A change: what was healthy before a change that is still being learnt stays healthy."""
        healthy = self._recovery.healthy if self._recovery else self._losses.reference.mean
        self._recovery = Recovery(change, healthy)
        self._regime += 1

    def _retrain(self, recovery: Recovery, stop: int) -> None:
        if not self._allowed(stop):
            return
        self._ended.append(stop)
        try:
            lesson = self._lesson(max(recovery.first_row(), stop - MAX_ROWS), stop)
            trained = train_by_policy(lesson, self._policy, self._champion)
            judged = judge_regimes(trained, self._champion)
        except DataError:  # too few different rows: more will come
            self.tally.refused.append(stop)
            self._recovery = replace(recovery, tried=stop)
            return
        self.tally.rows_learnt += len(lesson.train) + len(lesson.held_out)
        assert judged.champion is not None
        ours, theirs = judged.candidate[judged.regime], judged.champion[judged.regime]
        better = gained(ours, theirs, stricter(self._policy.gates, trained).error_rate)
        passed = self._passes(trained, judged)
        if passed:
            self.tally.retrains.append(stop)
            self._take_over(trained, judged, self._champion, self._answered)
        else:
            self.tally.refused.append(stop)
        loss = float((ours if passed else theirs).mean())
        tolerance = self._policy.monitor.tolerance_loss
        self._recovery = recovery.after(Try(stop, loss, passed, better), tolerance)
        if self._recovery is None and not passed:
            self._losses.reset()  # the version stayed: if it is still worse, that is a new alarm

    def _allowed(self, stop: int) -> bool:
        """Whether cool-down and daily budget let a retrain start before row `stop`."""
        rules = self._policy.retrain
        ages = [self._course.seconds(stop - row) for row in self._ended]
        rested = not ages or ages[-1] >= rules.cool_down_seconds
        return rested and sum(age < DAY for age in ages) < rules.max_per_day

    def _lesson(self, start: int, stop: int) -> Lesson:
        ids = [str(row) for row in range(start, stop)]
        return next_lesson(part(self._dataset, start, stop), ids, self._policy, self._regime)

    def _passes(self, trained: Trained, judged: Judged) -> bool:
        """Ask every gate that compares losses."""
        evidence = Evidence(
            Contender("candidate", judged.candidate),
            Contender("champion", judged.champion) if judged.champion is not None else None,
            stricter(self._policy.gates, trained),
            documents=None,
            task=trained.learner.task,
            regime=trained.lesson.regime,
            rows=trained.lesson.held_out.rows,
            labels=trained.lesson.held_out.labels,
        )
        return judge(evidence, _AT).passed

    def _take_over(
        self, trained: Trained, judged: Judged, before: Champion | None, row: int
    ) -> None:
        """The candidate answers from `row` on, and is watched by its own profile."""
        version = before.version + 1 if before else 1
        memory, regimes = remember(trained, before, self._policy)
        replay = self._folder / str(version)
        memory.save(replay)
        self._champion = Champion(
            version,
            "",
            trained.reference,
            trained.learner,
            trained.module,
            memory,
            regimes,
            self._folder,
            replay,
        )
        self.serving = Serving(trained.learner, trained.module)
        self._since = row
        self._watch(build_profile(trained, judged))

    def _watch(self, profile: Profile) -> None:
        rules = self._policy.monitor
        self._inputs = InputDetector(profile, rules.budget_predictions, rules.tolerance_inputs)
        self._losses = LossDetector(
            profile.loss_reference, rules.budget_labels, rules.tolerance_loss
        )
