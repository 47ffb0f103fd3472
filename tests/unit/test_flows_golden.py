"""What a candidate is asked again wherever it is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from flows.golden import GOLDEN_FILE, GOLDEN_ROWS, golden
from homeostat.errors import ArtifactError
from models.artifact import save_model
from models.digits import Digits
from monitoring.profile import Profile
from serving.runtime import load

ROWS = [[float((n * k) % 17) for k in range(64)] for n in range(20)]


@pytest.mark.parametrize("same", [True, False])
def test_a_version_is_loaded_only_where_it_answers_its_golden_rows_as_when_it_was_judged(
    tmp_path: Path, same: bool
) -> None:
    learner = Digits.from_data(ROWS, [n % 10 for n in range(20)], {})
    module = learner.build(torch.Generator().manual_seed(0))
    asked = golden(learner, module, ROWS)
    assert len(json.loads(asked)["rows"]) == GOLDEN_ROWS
    assert golden(learner, module, ROWS) == asked
    x = learner.encode(ROWS)
    outputs = learner.predict(module, x)
    profile = Profile.from_reference(
        learner.features,
        learner.task,
        learner.observe(x),
        learner.predicted(outputs),
        learner.confidence(outputs),
        [0.0] * len(ROWS),
    )
    other = learner.build(torch.Generator().manual_seed(1))
    extra = {"profile.json": profile.to_json().encode(), GOLDEN_FILE: asked}
    digest = save_model(tmp_path, "digits", learner, module if same else other, extra)
    if same:
        assert load(tmp_path, "digits", 1, digest, {"digits"}).version == 1
        return
    with pytest.raises(ArtifactError, match="golden rows otherwise"):
        load(tmp_path, "digits", 1, digest, {"digits"})
