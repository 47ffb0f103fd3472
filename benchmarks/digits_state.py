"""A state folder as a gateway finds it: two trained versions of the digits model, one promoted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from flows.golden import GOLDEN_FILE, golden
from homeostat.clock import utc_now
from models.artifact import save_model
from models.data import read_dataset, split
from models.digits import Digits
from models.evaluate import evaluate
from models.learner import Budget, Examples
from monitoring.profile import Profile
from registry import connect, promote, sessions, transaction, upgrade
from registry.cache import ArtifactCache


@dataclass(frozen=True)
class Prepared:
    """What is served: the champion's folder, rows that it has not seen, its class for each."""

    champion: Path
    rows: list[list[float]]
    classes: list[object]


def prepare(state: Path, **config: int) -> Prepared:
    """Fill a state folder with two trained versions: the second champion, the first standby.

    Args:
        state: An empty folder.
        config: Of the learner: `channels` and `hidden`.
    """
    train, held = split(read_dataset("builtin:digits", "label"), 0.3, 0)
    learner = Digits.from_data(train.rows, train.labels, config)
    url = f"sqlite:///{state / 'lifecycle.db'}"
    upgrade(url)
    maker = sessions(connect(url))
    x = learner.encode(held.rows)
    for version in (1, 2):
        generator = torch.Generator().manual_seed(version)
        module = learner.build(generator)
        data = Examples(learner.encode(train.rows), learner.targets(train.labels))
        learner.fit(module, data, None, Budget(epochs=8), generator)
        judged = evaluate(learner, module, x, held.labels)
        profile = Profile.from_reference(
            learner.features,
            learner.task,
            learner.observe(x),
            learner.predicted(judged.outputs),
            learner.confidence(judged.outputs),
            judged.losses,
        )
        made = state / "made"
        extra = {
            "profile.json": profile.to_json().encode(),
            GOLDEN_FILE: golden(learner, module, held.rows),
        }
        digest = save_model(made, "digits", learner, module, extra)
        (state / "versions").mkdir(exist_ok=True)
        made.rename(state / "versions" / digest)
        ArtifactCache(state / "versions").remember("digits", version, digest)
        with transaction(maker) as session:
            promote(
                session,
                "digits",
                version,
                actor="benchmark",
                reason="to be measured",
                evidence={},
                now=utc_now(),
                digest=digest,
            )
    rows = [[float(value) for value in torch.tensor(row).flatten()] for row in held.rows]
    classes = [answer["prediction"] for answer in learner.answers(judged.outputs)]
    return Prepared(state / "versions" / digest, rows, classes)
