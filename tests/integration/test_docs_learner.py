"""The learner that docs/learner.md shows is the one that works."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_wine

from models import Budget, Examples, evaluate, find_learner, load_model, save_model

PAGE = Path(__file__).parents[2] / "docs" / "learner.md"


def test_the_documented_learner_trains_and_is_rebuilt_from_its_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    (tmp_path / "wine.py").write_text(blocks[0])
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()

    wine = load_wine(as_frame=True)
    rows, labels = wine.data.to_dict("records"), wine.target.tolist()
    learner = find_learner("wine:Wine").from_data(rows[::2], labels[::2], {})
    generator = torch.Generator().manual_seed(0)
    model = learner.build(generator)
    taught = Examples(learner.encode(rows[::2]), learner.targets(labels[::2]))
    learner.fit(model, taught, None, Budget(epochs=20), generator)

    save_model(tmp_path / "model", "wine:Wine", learner, model, {})
    loaded = load_model(tmp_path / "model", allowed={"wine:Wine"}, digest=None)
    judged = evaluate(loaded.learner, loaded.model, loaded.learner.encode(rows[1::2]), labels[1::2])
    assert judged.accuracy > 0.9
