"""CLINC150, all 150 intents at once: what hashed n-grams reach on real utterances."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
import torch

from models import Budget, Examples, Text, evaluate

# Larson et al. 2019, CC BY 3.0; it does not come with this repository.
FOLDER = os.environ.get("PUBLIC_DATA") or Path(__file__).parents[3] / "shared" / "data"
FILE = Path(FOLDER) / "clinc150_full.json.gz"


@pytest.mark.skipif(not FILE.exists(), reason=f"CLINC150 is not there: PUBLIC_DATA has no {FILE}")
def test_a_hundred_and_fifty_intents_are_told_apart() -> None:
    with gzip.open(FILE) as file:
        data = json.load(file)
    texts, intents = zip(*data["train"], strict=True)
    learner = Text.from_data(texts, intents, {})
    generator = torch.Generator().manual_seed(0)
    model = learner.build(generator)
    taught = Examples(learner.encode(texts), learner.targets(intents))
    learner.fit(model, taught, None, Budget(epochs=3), generator)

    asked, truths = zip(*data["test"], strict=True)
    accuracy = evaluate(learner, model, learner.encode(asked), truths).accuracy
    print(f"CLINC150, {len(learner.classes)} intents, {len(asked)} utterances: {accuracy:.4f}")
    assert len(learner.classes) == 150
    assert accuracy >= 0.90
