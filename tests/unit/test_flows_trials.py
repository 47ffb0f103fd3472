"""`auto`: what is tried, which is kept, and that the gates are as strict as the choice was wide."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.judging import build_profile, judge_regimes
from flows.learning import Champion, Trial, load_champion, save, train_afresh, train_further
from flows.lessons import Lesson, first_lesson, next_lesson
from flows.trials import TRIED, best, stricter, train_by_policy, with_strategy
from homeostat.policy import GatePolicy, Policy, RetrainPolicy
from models import Dataset

pytestmark = pytest.mark.usefixtures("one_thread")

POLICY = Policy(
    learner="table", epochs=8, retrain=RetrainPolicy(epochs=3, memory_rows=60, strategy="auto")
)


def points(count: int, shift: float, seed: int) -> Dataset:
    draw = np.random.default_rng(seed).normal([shift, 0.0], 1.0, size=(count, 2)).round(6)
    rows = [{"a": float(a), "b": float(b)} for a, b in draw]
    return Dataset.of(rows, ["up" if row["a"] > shift else "down" for row in rows])


def champion_of(folder: Path, policy: Policy) -> Champion:
    trained = train_afresh(first_lesson(points(150, 0.0, 0), policy), policy, None)
    save(folder, trained, build_profile(trained, judge_regimes(trained, None)), None, policy)
    return load_champion(1, folder / "model", folder / "replay", policy)


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Champion:
    return champion_of(tmp_path_factory.mktemp("champion"), POLICY)


@pytest.fixture(scope="module")
def lesson() -> Lesson:
    return next_lesson(points(120, 3.0, 1), [f"p{n}" for n in range(120)], POLICY, 1)


def trial(gain: float, forgetting: float) -> Trial:
    return Trial("replay", gain, forgetting, forgetting < 0.05, 1.0)


def test_the_greatest_gain_among_those_that_keep_the_rest_is_kept() -> None:
    assert best([trial(0.1, 0.0), trial(0.4, 0.2), trial(0.3, 0.04), trial(0.3, 0.01)]) == 2


def test_where_all_forget_too_much_the_one_that_forgot_least_is_kept() -> None:
    assert best([trial(0.4, 0.3), trial(0.1, 0.1), trial(0.5, 0.2)]) == 1


def test_what_is_kept_is_to_the_bit_what_its_strategy_alone_makes(
    champion: Champion, lesson: Lesson
) -> None:
    chosen = train_by_policy(lesson, POLICY, champion)
    assert [one.strategy for one in chosen.trials] == list(TRIED)
    assert chosen.trials[best(chosen.trials)].strategy == chosen.strategy
    alone = train_further(lesson, with_strategy(POLICY, chosen.strategy), champion)
    pairs = zip(chosen.module.state_dict().items(), alone.module.state_dict().items(), strict=True)
    assert all(one[0] == other[0] and one[1].equal(other[1]) for one, other in pairs)
    assert chosen.fit.seconds == pytest.approx(sum(one.seconds for one in chosen.trials))


def test_a_trial_is_measured_as_the_gates_measure_it(champion: Champion, lesson: Lesson) -> None:
    chosen = train_by_policy(lesson, POLICY, champion)
    judged = judge_regimes(chosen, champion)
    assert judged.champion is not None
    told = chosen.trials[best(chosen.trials)]
    assert told.gain == pytest.approx((judged.champion[1] - judged.candidate[1]).mean())
    lost = float((judged.candidate[0] - judged.champion[0]).mean())
    assert told.forgetting == pytest.approx(max(lost, 0.0) if lost < 0 else lost)


def test_the_time_of_a_retrain_is_shared_by_the_trials(champion: Champion, lesson: Lesson) -> None:
    hurried = POLICY.model_copy(
        update={"retrain": POLICY.retrain.model_copy(update={"seconds": 1e-6, "epochs": 1000})}
    )
    found = train_by_policy(lesson, hurried, champion)
    assert len(found.trials) == len(TRIED)
    assert found.fit.stopped == "seconds"
    assert found.fit.steps == 1


def test_the_gates_are_as_much_stricter_as_there_were_trials(
    champion: Champion, lesson: Lesson
) -> None:
    gates = GatePolicy(error_rate=0.05)
    named = train_further(lesson, with_strategy(POLICY, "replay"), champion)
    assert stricter(gates, named) == gates
    tried = replace(named, trials=(trial(0.1, 0.0),) * 4)
    assert stricter(gates, tried).error_rate == pytest.approx(0.0125)


def test_a_head_of_sums_is_trained_in_the_one_way_there_is(tmp_path: Path, lesson: Lesson) -> None:
    policy = POLICY.model_copy(
        update={
            "learner": "models.prototypes:Prototypes",
            "learner_config": {"of": "table", "projections": 64},
        }
    )
    champion = champion_of(tmp_path, policy)
    found = train_by_policy(lesson, policy, champion)
    assert (found.strategy, len(found.trials)) == ("prototypes", 1)
