"""The lineage of a candidate, written down when it is made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from torch import nn

from flows.judging import Judged
from flows.learning import Champion, Trained
from flows.origin import Origin
from flows.provenance import code_facts, environment_facts
from homeostat.policy import Policy
from models.artifact import MANIFEST_FILE
from models.stored import canonical
from registry.lineage_record import (
    Ancestor,
    Cost,
    DataFacts,
    FileFacts,
    Lineage,
    MemoryFacts,
    Parent,
)
from registry.numbers import Make

# The part of a policy that decides the bytes of an artifact; the rest judges and moves it.
DECIDING: dict[str, Any] = {
    "learner": True,
    "learner_config": True,
    "label": True,
    "seed": True,
    "epochs": True,
    "retrain": {
        "strategy",
        "memory_rows",
        "memory_bytes",
        "epochs",
        "seconds",
        "rows_read",
        "patience",
        "holdout",
        "new_class_rows",
    },
}


def trace(
    folder: Path,
    origin: Origin,
    trained: Trained,
    judged: Judged,
    champion: Champion | None,
    policy: Policy,
    digest: str,
) -> Lineage:
    """Where a candidate on disk comes from; its number is given when it is kept.

    Args:
        folder: Holds `model/` and `replay/`.
        origin: Which work made it.
        trained: The module with its lesson.
        judged: On which regimes.
        champion: Whose memory it took over, or None.
        policy: Of the model.
        digest: Of `model/`.
    """
    lesson, fit, parent = trained.lesson, trained.fit, origin.parent
    begins, ends = origin.span if origin.span else (None, None)
    return Lineage(
        model=origin.model,
        number="",
        digest=digest,
        flow=origin.flow,
        made_at=origin.at.isoformat(),
        made_by=origin.made_by,
        parent=Parent(parent.version, parent.digest, "continual_of") if parent else None,
        champion=Ancestor(champion.version, champion.digest) if champion else None,
        data=DataFacts(
            source=origin.source,
            digest=lesson.digest,
            rows=len(lesson.train) + len(lesson.held_out),
            trained_on=len(lesson.train),
            held_out=len(lesson.held_out),
            begins=begins.isoformat() if begins else None,
            ends=ends.isoformat() if ends else None,
            regime=lesson.regime,
            regimes=tuple(sorted(judged.candidate)),
        ),
        code=code_facts(trained.reference),
        environment=environment_facts(trained.reference),
        parameters=_parameters(policy, trained),
        seed=policy.seed,
        memory=_memory(folder / "replay"),
        cost=Cost(
            seconds=round(fit.seconds, 3),
            cpu_seconds=round(trained.cpu_seconds, 3),
            rows=len(lesson.train) - fit.skipped,
            epochs=fit.epochs,
            steps=fit.steps,
            stopped=fit.stopped,
            rows_read=fit.rows_read,
            full_steps=trained.full_steps,
            hourly=policy.retrain.hourly_cost or None,
        ),
        make=_make(trained, policy),
        weights=sum(weight.numel() for weight in trained.module.parameters()),
        files=_files(folder / "model"),
    )


def _parameters(policy: Policy, trained: Trained) -> dict[str, Any]:
    """What decided the bytes; of `auto` what it chose, so that the version can be made again."""
    found: dict[str, Any] = policy.model_dump(mode="json", include=DECIDING)
    if trained.strategy:
        found["retrain"]["strategy"] = trained.strategy
    return found


def _make(trained: Trained, policy: Policy) -> Make:
    learner = trained.learner
    return Make(
        learner=trained.reference,
        options=dict(policy.learner_config),
        inputs=tuple(feature.name for feature in learner.features),
        layers=_layers(trained.module),
        classes=tuple(getattr(learner, "classes", ())),
        data=trained.lesson.digest,
    )


def _layers(module: nn.Module) -> str:
    """Of names, kinds and dimensions of the weights, not of their widths."""
    layers = [[name, str(w.dtype), w.ndim] for name, w in sorted(module.state_dict().items())]
    return hashlib.sha256(canonical(layers)).hexdigest()


def _memory(replay: Path) -> MemoryFacts:
    about = json.loads((replay / "memory.json").read_bytes())
    digest = hashlib.sha256((replay / MANIFEST_FILE).read_bytes()).hexdigest()
    return MemoryFacts(digest, len(about["ids"]))


def _files(model: Path) -> dict[str, FileFacts]:
    manifest = json.loads((model / MANIFEST_FILE).read_bytes())
    return {
        name: FileFacts(entry["sha256"], entry["bytes"])
        for name, entry in sorted(manifest["files"].items())
    }
