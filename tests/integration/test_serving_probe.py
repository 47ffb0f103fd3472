"""A candidate is measured in the serving code, in a process of its own, whatever it does there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import flows.probing
from flows.golden import golden
from flows.probing import probe
from homeostat.errors import ArtifactError
from models.artifact import save_model
from models.catalog import find_learner
from models.evaluate import evaluate
from monitoring.profile import Profile
from serving.probe import measure

ROWS = [[float((n * k) % 17) for k in range(64)] for n in range(40)]
LABELS = [n % 10 for n in range(40)]


LEARNER = '''
"""Digits that go wrong only where a variable says so: in the probe's process."""

import os
import time

from models.digits import Digits


class Odd(Digits):
    @classmethod
    def from_config(cls, config):
        match os.environ.get("TEST_PROBE", ""):
            case "dies":
                os.abort()
            case "hangs":
                time.sleep(600)
            case "prints":
                print('{"failure": "not the answer"}', flush=True)
        return super().from_config(config)

    def encode(self, rows):
        if os.environ.get("TEST_PROBE") == "slow":
            time.sleep(0.05)
        return super().encode(rows)
'''
ODD = "odd_digits:Odd"


@pytest.fixture(autouse=True)
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A learner of somebody's own, on this process's import path."""
    (tmp_path / "odd_digits.py").write_text(LEARNER)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "odd_digits", raising=False)


def make(folder: Path, *, asked: bytes | None = None) -> str:
    """A version's folder of a net that nobody trained; its digest."""
    learner = find_learner(ODD).from_data(ROWS, LABELS, {})
    module = learner.build(torch.Generator().manual_seed(0)).eval()
    x = learner.encode(ROWS)
    judged = evaluate(learner, module, x, LABELS)
    profile = Profile.from_reference(
        learner.features,
        learner.task,
        learner.observe(x),
        learner.predicted(judged.outputs),
        learner.confidence(judged.outputs),
        judged.losses,
    )
    files = {"profile.json": profile.to_json().encode()}
    if asked is None:
        files["golden.json"] = golden(learner, module, ROWS)
    elif asked:
        files["golden.json"] = asked
    return save_model(folder, ODD, learner, module, files)


def test_a_version_is_measured_in_the_serving_code(tmp_path: Path) -> None:
    digest = make(tmp_path / "model")
    found = probe(tmp_path / "model", digest, ODD)
    assert found.failure == ""
    assert found.rows == 8
    assert 0 < found.latency_p50_ms <= found.latency_p99_ms
    assert found.throughput_rows_s > 64
    assert 0 <= found.memory_mb < 500
    files = (tmp_path / "model").iterdir()
    assert found.size_bytes == sum(path.stat().st_size for path in files)


@pytest.mark.parametrize(
    ("way", "says"),
    [("dies", "was killed by signal 6"), ("hangs", "from_config")],
)
def test_a_candidate_that_ends_or_stops_its_process_is_a_failure_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, says: str
) -> None:
    digest = make(tmp_path / "model")
    monkeypatch.setenv("TEST_PROBE", way)
    seconds = 2.0 if way == "hangs" else 120.0
    found = probe(tmp_path / "model", digest, ODD, seconds)
    assert says in found.failure
    assert found.latency_p99_ms == 0.0


def test_what_a_learner_prints_is_no_part_of_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = make(tmp_path / "model")
    monkeypatch.setenv("TEST_PROBE", "prints")
    assert probe(tmp_path / "model", digest, ODD).failure == ""


def test_a_slow_learner_is_measured_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = make(tmp_path / "model")
    monkeypatch.setenv("TEST_PROBE", "slow")
    found = measure(tmp_path / "model", digest, [ODD])
    assert found["latency_p50_ms"] >= 50.0
    assert found["throughput_rows_s"] < 64 / 0.05


def test_files_that_are_not_what_was_saved_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "model")
    found = probe(tmp_path / "model", "0" * 64, ODD)
    assert "The serving code refused it: The digest is" in found.failure


def test_golden_rows_that_are_missing_or_answered_otherwise_are_refused(tmp_path: Path) -> None:
    without = make(tmp_path / "without", asked=b"")
    with pytest.raises(ArtifactError, match="there is nothing to ask it"):
        measure(tmp_path / "without", without, [ODD])
    outputs = np.full((1, 10), 9.0).tolist()
    other = json.dumps({"rows": ROWS[:1], "outputs": outputs}).encode()
    digest = make(tmp_path / "other", asked=other)
    with pytest.raises(ArtifactError, match="golden rows otherwise"):
        measure(tmp_path / "other", digest, [ODD])


def test_a_probe_that_outlives_its_own_deadline_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the process is stopped: it cannot end itself then."""
    monkeypatch.setattr(flows.probing, "START", -0.99)
    found = probe(tmp_path, "", ODD, 1.0)
    assert "did not answer within 1 s" in found.failure
