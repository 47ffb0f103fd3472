"""On real digits the default strategy passes the gates, and a plain fine-tune fails the same."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from flows.judging import build_profile, judge_regimes
from flows.learning import Champion, load_champion, save, train_afresh, train_further
from flows.lessons import first_lesson, next_lesson
from flows.trials import with_strategy
from homeostat.policy import Policy
from models import Dataset, read_dataset
from registry.gate_evidence import Contender, Evidence
from registry.gates import judge
from registry.verdicts import Verdict

POLICY = Policy(learner="digits", epochs=15)
TURNED = 500  # rows of the new regime: the camera hangs on its side


@pytest.fixture(scope="module")
def digits() -> tuple[Dataset, Dataset]:
    """Upright digits, and others that are turned by a quarter."""
    data = read_dataset("builtin:digits", "")
    turned = [np.rot90(np.reshape(row, (8, 8))).ravel().tolist() for row in data.rows[-TURNED:]]
    return (
        Dataset.of(data.rows[:-TURNED], data.labels[:-TURNED]),
        Dataset.of(turned, data.labels[-TURNED:]),
    )


@pytest.fixture(scope="module")
def champion(digits: tuple[Dataset, Dataset], tmp_path_factory: pytest.TempPathFactory) -> Champion:
    folder = tmp_path_factory.mktemp("champion")
    trained = train_afresh(first_lesson(digits[0], POLICY), POLICY, None)
    save(folder, trained, build_profile(trained, judge_regimes(trained, None)), None, POLICY)
    return load_champion(1, folder / "model", folder / "replay", POLICY)


def verdict(champion: Champion, turned: Dataset, strategy: str) -> Verdict:
    lesson = next_lesson(turned, [f"p{row}" for row in range(len(turned))], POLICY, 1)
    trained = train_further(lesson, with_strategy(POLICY, strategy), champion)
    judged = judge_regimes(trained, champion)
    assert judged.champion is not None
    evidence = Evidence(
        Contender("candidate", judged.candidate),
        Contender("champion", judged.champion),
        POLICY.gates,
        documents=None,
        task="classification",
        regime=1,
        rows=lesson.held_out.rows,
        labels=lesson.held_out.labels,
    )
    return judge(evidence, datetime(2026, 1, 1, tzinfo=UTC))


def test_the_default_learns_the_turned_digits_and_passes(
    champion: Champion, digits: tuple[Dataset, Dataset]
) -> None:
    found = verdict(champion, digits[1], POLICY.retrain.strategy)
    print(found.reason, *(figure.reason for figure in found.figures), sep="\n")
    assert found.passed
    assert next(one for one in found.figures if one.name == "newest-regime").figure < -0.3


def test_a_plain_fine_tune_learns_as_much_and_is_refused_for_what_it_forgot(
    champion: Champion, digits: tuple[Dataset, Dataset]
) -> None:
    found = verdict(champion, digits[1], "fine-tune")
    print(found.reason, *(figure.reason for figure in found.figures), sep="\n")
    figures = {figure.name: figure for figure in found.figures}
    assert figures["newest-regime"].passed
    assert figures["newest-regime"].figure < -0.3
    assert not figures["regime-0"].passed
    assert figures["regime-0"].figure > POLICY.gates.forgetting
    assert not found.passed
