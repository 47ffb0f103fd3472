from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from flows.backtest import Course, Labelled, Replayed, Serving, Tally, replay
from flows.backtest_loop import Homeostat
from flows.backtest_rules import Adwin, Calendar, Never, river_is_here
from homeostat.errors import DataError, InputError, Refused
from homeostat.policy import GatePolicy, Policy, RetrainPolicy
from models import Dataset
from models.evaluate import Evaluation

CHANGE = 900
COURSE = Course(warmup=400, batch=50)
POLICY = Policy(
    learner="table",
    epochs=10,
    gates=GatePolicy(forgetting=1.0, class_budget=1.0, min_accuracy=0.5),
    retrain=RetrainPolicy(strategy="fine-tune", epochs=15, min_labels=200, cool_down_seconds=0.0),
)


def stream(rows: int, change: int | None) -> Dataset:
    """Points told apart by the sign of `a`; from the row `change` on the other way round."""
    draw = np.random.default_rng(5).normal(size=(rows, 2)).round(6)
    up = (draw[:, 0] > 0) != (np.arange(rows) >= (rows if change is None else change))
    points = [{"a": float(a), "b": float(b)} for a, b in draw]
    return Dataset.of(points, ["up" if each else "down" for each in up])


MOVING, STILL = stream(1_800, CHANGE), stream(1_800, None)


def accuracy_at_the_end(replayed: Replayed) -> float:
    return 1.0 - float(replayed.losses[-300:].mean())


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    rule = Homeostat(MOVING, POLICY, COURSE, tmp_path_factory.mktemp("loop"))
    return replay(MOVING, rule, COURSE)


def test_the_loop_alarms_after_the_change_and_recovers(loop: Replayed) -> None:
    assert len(loop.tally.alarms) == 1
    assert CHANGE < loop.tally.alarms[0] <= CHANGE + 100
    assert loop.tally.retrains[0] >= CHANGE + 200
    assert accuracy_at_the_end(loop) > 0.9


def test_who_never_retrains_stays_wrong() -> None:
    never = replay(MOVING, Never(MOVING, POLICY, COURSE), COURSE)

    assert never.tally == Tally()
    assert accuracy_at_the_end(never) < 0.1


def test_nothing_alarms_on_a_stream_that_stays_the_same(tmp_path: Path) -> None:
    still = replay(STILL, Homeostat(STILL, POLICY, COURSE, tmp_path), COURSE)

    assert (still.tally.alarms, still.tally.retrains) == ([], [])
    assert still.accuracy > 0.95


def test_gates_that_want_the_old_world_kept_refuse_what_learnt_its_opposite(tmp_path: Path) -> None:
    strict = POLICY.model_copy(update={"gates": GatePolicy(min_accuracy=0.5)})

    refused = replay(MOVING, Homeostat(MOVING, strict, COURSE, tmp_path), COURSE)

    assert refused.tally.retrains == []
    assert refused.tally.refused
    assert accuracy_at_the_end(refused) < 0.1


def test_the_cool_down_and_the_daily_budget_hold_in_rows_for_time(tmp_path: Path) -> None:
    rules = POLICY.retrain.model_copy(update={"max_per_day": 1})
    course = Course(warmup=400, batch=50, rows_per_day=10_000)
    strict = POLICY.model_copy(update={"retrain": rules, "gates": GatePolicy(min_accuracy=1.0)})

    replayed = replay(MOVING, Homeostat(MOVING, strict, course, tmp_path), course)

    assert len(replayed.tally.refused) == 1


def test_the_calendar_retrains_every_so_many_rows() -> None:
    replayed = replay(MOVING, Calendar(MOVING, POLICY, COURSE, 500), COURSE)

    assert replayed.tally.retrains == [900, 1_400]
    assert replayed.tally.rows_learnt == 1_000
    assert accuracy_at_the_end(replayed) > 0.9


def test_adwin_is_asked_where_river_is_installed() -> None:
    if not river_is_here():
        with pytest.raises(Refused, match="river is not installed"):
            Adwin(MOVING, POLICY, COURSE)
        return
    replayed = replay(MOVING, Adwin(MOVING, POLICY, COURSE), COURSE)
    assert accuracy_at_the_end(replayed) > 0.9


@dataclass
class Noting:
    """A rule that only writes down which labels it was given when."""

    serving: Serving
    name: str = "noting"
    tally: Tally = field(default_factory=Tally)
    seen: list[tuple[str, int, int]] = field(default_factory=list)

    def answered(self, start: int, stop: int, evaluation: Evaluation) -> None:
        assert len(evaluation.losses) == stop - start
        self.seen.append(("answered", start, stop))

    def labelled(self, rows: Labelled) -> None:
        assert len(rows.losses) == rows.stop - rows.start
        self.seen.append(("labelled", rows.start, rows.stop))


def test_labels_come_after_their_delay_and_each_once() -> None:
    rows = stream(250, None)
    course = Course(warmup=100, batch=50, delay=70)
    rule = Noting(Never(rows, POLICY, course).serving)

    replay(rows, rule, course)

    assert rule.seen == [
        ("answered", 100, 150),
        ("answered", 150, 200),
        ("labelled", 100, 130),
        ("answered", 200, 250),
        ("labelled", 130, 180),
    ]


def test_a_curve_ends_with_the_stream_and_its_mean_is_the_accuracy(loop: Replayed) -> None:
    curve = loop.curve(COURSE.warmup)

    assert curve[-1][0] == len(MOVING)
    assert np.mean([accuracy for _, accuracy in curve]) == pytest.approx(loop.accuracy)


@pytest.mark.parametrize(
    ("course", "error"),
    [(Course(warmup=10), InputError), (Course(batch=0), InputError), (Course(5_000), DataError)],
)
def test_a_course_that_cannot_be_meant_is_refused(course: Course, error: type[InputError]) -> None:
    with pytest.raises(error):
        Never(STILL, POLICY, course)
