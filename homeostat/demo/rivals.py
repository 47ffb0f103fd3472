"""What the demo compares with: fine-tuning without replay, and a colleague's bad version."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from homeostat.demo.images import Images
from homeostat.demo.stage import MODEL, Stage
from homeostat.demo.traffic import Answer
from models import Budget, Evaluation, Examples, evaluate, load_model, retrain, save_model
from models.artifact import LoadedModel
from registry import Contender, Evidence, MlflowVersions
from registry.gates import GateFigure, forgetting

CONFUSED = ((3, 8), (4, 9))  # pairs of digits that the bad version takes for one another


@dataclass(frozen=True)
class Figures:
    """Accuracies on upright (old) and slanted (new) images held out from all training."""

    before_old: float
    replay_old: float
    naive_old: float
    naive_new: float
    naive_gate: GateFigure
    """What the gate on forgetting says of fine-tuning without replay."""


def compare(stage: Stage, taught: list[Answer], kept: Images) -> Figures:
    """What version 1, version 2 and a fine-tuned version 1 without replay are worth.

    Args:
        stage: The running product; the versions come from MLflow.
        taught: The labelled slanted images that arrived before version 2 answered.
        kept: Slanted images that none of them was trained on.
    """
    torch.set_num_threads(1)  # more of them fight with the gateway for two cores
    first, second = _fetch(stage, 1), _fetch(stage, 2)
    policy = stage.settings.policy(MODEL)
    rows = taught[: policy.retrain.min_labels]
    examples = Examples(
        first.learner.encode([a.row for a in rows]),
        first.learner.targets([a.label for a in rows]),
    )
    budget = Budget(epochs=policy.retrain.epochs, seconds=policy.retrain.seconds)
    naive, _ = retrain(first.learner, first.model, examples, None, "fine-tune", budget, seed=0)
    naive_version = LoadedModel(first.learner, naive, "", first.reference)
    before, after = _judged_on(first, stage.held, kept), _judged_on(naive_version, stage.held, kept)
    (gate,) = forgetting(Evidence(_contender(after), _contender(before), policy.gates, None))
    return Figures(
        before_old=before[0].accuracy,
        replay_old=_judged(second, stage.held).accuracy,
        naive_old=after[0].accuracy,
        naive_new=after[1].accuracy,
        naive_gate=gate,
    )


def register_bad_version(stage: Stage) -> int:
    """Register a version with two pairs of digits confused; answers its number."""
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # the story is told elsewhere
    import mlflow

    good = _fetch(stage, 2)
    with torch.no_grad():
        head = [m for m in good.model.modules() if isinstance(m, torch.nn.Linear)][-1]
        for one, other in CONFUSED:
            for values in (head.weight, head.bias):
                values[[one, other]] = values[[other, one]].clone()
    profile = stage.settings.state_dir / "versions" / good.digest / "profile.json"
    mlflow.set_tracking_uri(stage.settings.mlflow_address)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        extra = {"profile.json": profile.read_bytes()}
        digest = save_model(folder, good.reference, good.learner, good.model, extra)
        with mlflow.start_run(run_name="a colleague's laptop") as run:
            mlflow.log_artifacts(str(folder), "model")
    versions = MlflowVersions(stage.settings.mlflow_address)
    return versions.register(
        MODEL, run.info.run_id, "model", digest, "laptop", {}, "Made on a colleague's laptop."
    )


def _fetch(stage: Stage, version: int) -> LoadedModel:
    versions = MlflowVersions(stage.settings.mlflow_address)
    folder = versions.fetch(MODEL, version, stage.settings.state_dir / "versions")
    return load_model(folder, allowed={stage.settings.policy(MODEL).learner}, digest=None)


def _judged_on(version: LoadedModel, *regimes: Images) -> list[Evaluation]:
    return [_judged(version, images) for images in regimes]


def _contender(judged: list[Evaluation]) -> Contender:
    return Contender("", {regime: found.losses for regime, found in enumerate(judged)})


def _judged(version: LoadedModel, images: Images) -> Evaluation:
    rows = version.learner.encode(images.pixels.tolist())
    return evaluate(version.learner, version.model, rows, images.digits.tolist())
