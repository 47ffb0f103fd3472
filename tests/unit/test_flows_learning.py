from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from flows.candidates import figures
from flows.judging import Judged, build_profile, judge_regimes
from flows.learning import (
    Champion,
    Trained,
    load_champion,
    remember,
    save,
    train_afresh,
    train_further,
)
from flows.lessons import first_lesson, next_lesson
from homeostat.policy import Policy, RetrainPolicy
from models import Dataset

POLICY = Policy(learner="table", epochs=3, retrain=RetrainPolicy(epochs=3, memory_rows=40))


def points(count: int, shift: float, seed: int) -> Dataset:
    """Two classes of points, told apart by the sign of `a - shift`."""
    draw = np.random.default_rng(seed).normal([shift, 0.0], 1.0, size=(count, 2)).round(6)
    rows = [{"a": float(a), "b": float(b)} for a, b in draw]
    return Dataset.of(rows, ["up" if row["a"] > shift else "down" for row in rows])


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Champion:
    folder = tmp_path_factory.mktemp("champion")
    trained = train_afresh(first_lesson(points(120, 0.0, 0), POLICY), POLICY, None)
    judged = judge_regimes(trained, None)
    save(folder, trained, build_profile(trained, judged), None, POLICY)
    return load_champion(1, folder / "model", folder / "replay", POLICY)


def further(champion: Champion) -> tuple[Trained, Judged]:
    dataset = points(100, 3.0, 1)
    ids = [f"p{number}" for number in range(100)]
    trained = train_further(next_lesson(dataset, ids, POLICY, 1), POLICY, champion)
    return trained, judge_regimes(trained, champion)


def test_the_same_data_gives_the_same_digest(tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        trained = train_afresh(first_lesson(points(60, 0.0, 2), POLICY), POLICY, None)
        profile = build_profile(trained, judge_regimes(trained, None))
        digests.append(save(tmp_path / name, trained, profile, None, POLICY))

    assert digests[0] == digests[1]


def test_rows_keep_the_ids_of_their_predictions_through_the_split() -> None:
    dataset = points(50, 0.0, 3)
    doubled = Dataset.of([*dataset.rows, dataset.rows[0]], [*dataset.labels, dataset.labels[0]])
    ids = [f"p{number}" for number in range(51)]

    lesson = next_lesson(doubled, ids, POLICY, 1)

    known = dict(zip(ids, doubled.rows, strict=True))
    assert [known[one] for one in lesson.train_ids] == list(lesson.train.rows)
    assert [known[one] for one in lesson.held_out_ids] == list(lesson.held_out.rows)
    assert sorted(lesson.train_ids + lesson.held_out_ids) == sorted(ids)


def test_a_retrain_is_judged_next_to_the_champion_on_every_regime(champion: Champion) -> None:
    trained, judged = further(champion)

    assert judged.regime == 1
    assert judged.champion is not None
    assert {number: len(losses) for number, losses in judged.candidate.items()} == {
        number: len(losses) for number, losses in judged.champion.items()
    }
    assert set(judged.candidate) == {0, 1}
    told = figures(trained, judged)
    new = judged.champion[1].mean() - judged.candidate[1].mean()
    old = judged.candidate[0].mean() - judged.champion[0].mean()
    assert told["gain"] == pytest.approx(new)
    assert told["forgetting"] == pytest.approx(old)


def test_a_retrain_tells_what_regimes_do_to_each_other(champion: Champion) -> None:
    trained, judged = further(champion)
    told = figures(trained, judged)

    since = 1.0 - judged.candidate[0].mean() - champion.regimes.learnt[0]
    assert told["backward_transfer"] == pytest.approx(since)
    assert judged.champion is not None
    assert judged.untrained is not None
    gained = 1.0 - judged.champion[1].mean() - judged.untrained
    assert told["forward_transfer"] == pytest.approx(gained)
    assert 0.0 <= judged.untrained < 1.0
    _, regimes = remember(trained, champion, POLICY)
    assert regimes.learnt == {
        0: champion.regimes.learnt[0],
        1: pytest.approx(1.0 - judged.candidate[1].mean()),
    }


def test_what_is_held_out_is_never_kept_to_be_replayed(champion: Champion) -> None:
    trained, _ = further(champion)

    memory, regimes = remember(trained, champion, POLICY)

    assert regimes.numbers == (0, 1)
    assert set(regimes.get(1).ids) == set(trained.lesson.held_out_ids)
    assert not set(memory.examples().ids) & set(trained.lesson.held_out_ids)
    assert set(memory.examples().regime.tolist()) == {0, 1}
    assert len(memory) == 40


def test_a_candidate_leaves_the_champion_as_it_was(champion: Champion) -> None:
    before = [value.clone() for value in champion.module.state_dict().values()]
    rows = len(champion.memory)

    trained, _ = further(champion)
    remember(trained, champion, POLICY)

    after = champion.module.state_dict().values()
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert len(champion.memory) == rows
    assert champion.regimes.numbers == (0,)


def test_the_profile_is_of_the_newest_regime(champion: Champion) -> None:
    trained, judged = further(champion)

    profile = build_profile(trained, judged)

    assert profile.rows == len(trained.lesson.held_out)
    assert profile.losses.total == pytest.approx(judged.candidate[1].sum())


def test_a_new_pipeline_version_learns_the_memory_of_the_regimes_since(
    champion: Champion, tmp_path: Path
) -> None:
    trained, judged = further(champion)
    save(tmp_path, trained, build_profile(trained, judged), champion, POLICY)
    second = load_champion(2, tmp_path / "model", tmp_path / "replay", POLICY)

    afresh = train_afresh(first_lesson(points(120, 0.0, 0), POLICY), POLICY, second)
    judged = judge_regimes(afresh, second)
    memory, regimes = remember(afresh, second, POLICY)

    assert judged.regime == 1
    assert set(judged.candidate) == {0, 1}
    assert regimes.numbers == (0, 1)
    assert set(memory.examples().regime.tolist()) == {0, 1}


def test_a_candidate_of_other_columns_is_compared_on_its_own_rows_only(champion: Champion) -> None:
    """Other data: the table's columns are scaled otherwise, so frozen rows cannot be read."""
    lesson = first_lesson(points(80, 5.0, 4), POLICY)

    trained = train_afresh(lesson, POLICY, champion)
    judged = judge_regimes(trained, champion)
    _, regimes = remember(trained, champion, POLICY)

    assert set(judged.candidate) == {0}
    assert judged.champion is not None
    assert set(judged.champion) == {0}
    assert regimes.numbers == (0,)
