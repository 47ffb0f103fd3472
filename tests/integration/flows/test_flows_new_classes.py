"""Labels never seen before at a retrain: digits that know 0 to 7 are shown 8 and 9."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from flows.candidates import figures
from flows.judging import Judged, build_profile, judge_regimes
from flows.learning import Champion, Trained, load_champion, save, train_afresh, train_further
from flows.lessons import Lesson, first_lesson, next_lesson
from homeostat.policy import Policy, RetrainPolicy
from models import Dataset, Digits, read_dataset
from models.data import BUILTIN_DIGITS

POLICY = Policy(learner="digits", epochs=15, retrain=RetrainPolicy(epochs=40))
OLD, NEW = tuple(range(8)), (8, 9)


def images(digits: tuple[int, ...], typos: int = 0) -> Dataset:
    """All images of these digits; the first `typos` of them are labelled 88."""
    whole = read_dataset(BUILTIN_DIGITS, "digit")
    chosen = [at for at, label in enumerate(whole.labels) if label in digits]
    labels = [whole.labels[at] for at in chosen]
    return Dataset.of([whole.rows[at] for at in chosen], [88] * typos + labels[typos:])


def lesson(dataset: Dataset, regime: int = 1) -> Lesson:
    ids = [f"{regime}:{number}" for number in range(len(dataset))]
    return next_lesson(dataset, ids, POLICY, regime)


def kept(folder: Path, version: int, trained: Trained, champion: Champion | None) -> Champion:
    """A candidate written to disk and read again, as the champion."""
    profile = build_profile(trained, judge_regimes(trained, champion))
    save(folder, trained, profile, champion, POLICY)
    return load_champion(version, folder / "model", folder / "replay", POLICY)


def accuracy(judged: Judged, regime: int) -> float:
    return 1.0 - float(judged.candidate[regime].mean())


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Champion:
    trained = train_afresh(first_lesson(images(OLD), POLICY), POLICY, None)
    return kept(tmp_path_factory.mktemp("champion"), 1, trained, None)


@pytest.fixture(scope="module")
def grown(champion: Champion) -> Trained:
    return train_further(lesson(images(NEW)), POLICY, champion)


def test_new_classes_are_learnt_and_the_old_ones_kept(champion: Champion, grown: Trained) -> None:
    judged = judge_regimes(grown, champion)

    assert isinstance(champion.learner, Digits)
    assert isinstance(grown.learner, Digits)
    assert champion.learner.classes == OLD
    assert grown.learner.classes == (*OLD, *NEW)
    assert grown.fit.skipped == 0
    assert accuracy(judged, 1) > 0.9
    assert judged.champion is not None
    assert accuracy(judged, 0) > 1.0 - judged.champion[0].mean() - 0.03
    assert (judged.champion[1] == 1.0).all()
    assert figures(grown, judged)["unseen_share"] == 1.0


def test_before_it_is_trained_the_grown_model_answers_as_the_champion(champion: Champion) -> None:
    learner, generator = champion.learner.grown(NEW), torch.Generator().manual_seed(0)
    wide = champion.learner.grow(champion.module, learner, generator)

    x = champion.regimes.get(0).x
    before, after = champion.learner.predict(champion.module, x), learner.predict(wide, x)
    assert (before.argmax(axis=1) == after.argmax(axis=1)).mean() > 0.99


def test_a_grown_version_loads_with_memory_and_regimes_of_all_classes(
    champion: Champion, grown: Trained, tmp_path: Path
) -> None:
    second = kept(tmp_path, 2, grown, champion)

    assert second.learner == grown.learner
    x = second.learner.encode(images(NEW).rows[:50])
    answers = second.learner.predict(second.module, x)
    assert np.array_equal(answers, grown.learner.predict(grown.module, x))
    assert second.regimes.numbers == (0, 1)
    assert torch.equal(second.regimes.get(0).y, champion.regimes.get(0).y)
    remembered = second.memory.examples()
    assert set(remembered.y[remembered.regime == 0].tolist()) == set(range(8))
    assert set(remembered.y[remembered.regime == 1].tolist()) == {8, 9}
    kept_before = set(map(tuple, champion.memory.examples().x.tolist()))
    old = remembered.x[remembered.regime == 0].tolist()
    assert set(map(tuple, old)) <= kept_before


def test_a_new_pipeline_version_keeps_the_classes_taken_up_since(
    champion: Champion, grown: Trained, tmp_path: Path
) -> None:
    second = kept(tmp_path, 2, grown, champion)

    afresh = train_afresh(first_lesson(images(OLD), POLICY), POLICY, second)

    assert afresh.learner == grown.learner
    judged = judge_regimes(afresh, second)
    assert set(judged.candidate) == {0, 1}
    assert accuracy(judged, 1) > 0.8


def test_a_fine_tune_takes_them_up_too_and_forgets(champion: Champion) -> None:
    policy = Policy(learner="digits", retrain=RetrainPolicy(strategy="fine-tune"))

    judged = judge_regimes(train_further(lesson(images(NEW)), policy, champion), champion)

    assert accuracy(judged, 1) > 0.95
    assert accuracy(judged, 0) < 0.9


def test_a_few_slips_of_the_pen_grow_no_model(champion: Champion) -> None:
    typos = POLICY.retrain.new_class_rows - 1

    policy = Policy(learner="digits", retrain=RetrainPolicy(epochs=1))
    trained = train_further(lesson(images(OLD, typos)), policy, champion)

    assert trained.learner == champion.learner
    assert 0 < trained.fit.skipped <= typos
    assert trained.unseen == pytest.approx(typos / len(images(OLD)))


def test_the_same_lesson_grows_the_same_weights(champion: Champion, grown: Trained) -> None:
    again = train_further(lesson(images(NEW)), POLICY, champion)

    weights = grown.module.state_dict()
    assert all(torch.equal(weights[name], w) for name, w in again.module.state_dict().items())
