"""A language model behind the gateway: texts in, what comes next out, and the truth told later."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from fastapi.testclient import TestClient

from homeostat.clock import utc_now
from homeostat.policy import Policy
from models import Budget, Code, Examples, evaluate, save_model
from monitoring.profile import Profile
from registry import connect, incident_history, promote, sessions, transaction
from registry.cache import ArtifactCache
from serving.app import create_app

if TYPE_CHECKING:
    from tests.integration.gateway.conftest import Site

AUTH = {"Authorization": "Bearer the-token"}
LEARNER = Code(context=16, width=32, layers=1, horizon=4)
OURS = "def one(x): ret\ndef two(y): pas\nclass A: pass\n\n\nimport json\n\n# "
THEIRS = "{ let Z = 41; };; WHILE (Q) $%$ "


def windows(text: str, count: int, step: int = 7) -> list[tuple[str, str]]:
    """Rows and what came after each."""
    long = text * 40
    starts = [(step * n) % (len(text) * 30) for n in range(count)]
    return [(long[at : at + 16], long[at + 16 : at + 20]) for at in starts]


@pytest.fixture
def coder(site: Site, tmp_path: Path) -> TestClient:
    """A caller of a gateway that serves a model of our text as `python`."""
    pairs = windows(OURS, 300)
    x = LEARNER.encode([row for row, _ in pairs])
    y = LEARNER.targets([label for _, label in pairs])
    generator = torch.Generator().manual_seed(0)
    module = LEARNER.build(generator)
    taught, budget = Examples(x[:200], y[:200]), Budget(epochs=6, learning_rate=1e-2)
    LEARNER.fit(module, taught, None, budget, generator)
    judged = evaluate(LEARNER, module, x[200:], y[200:])
    profile = Profile.from_reference(
        LEARNER.features,
        LEARNER.task,
        LEARNER.observe(x[200:]),
        LEARNER.predicted(judged.outputs),
        LEARNER.confidence(judged.outputs),
        judged.losses,
    )
    reference, extra = "models.code:Code", {"profile.json": profile.to_json().encode()}
    digest = save_model(tmp_path / "made", reference, LEARNER, module, extra)
    versions = site.settings.state_dir / "versions"
    shutil.copytree(tmp_path / "made", versions / digest)
    ArtifactCache(versions).remember("python", 1, digest)
    settings = site.settings.model_copy(update={"models": {"python": Policy(learner=reference)}})
    with transaction(sessions(connect(settings.database))) as session:
        promote(
            session,
            "python",
            1,
            actor="test",
            reason="the test says so",
            evidence={},
            now=utc_now(),
            digest=digest,
        )
    return TestClient(create_app(settings), headers=AUTH)


def ask(client: TestClient, pairs: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """The answers to texts, whose continuations are told at once."""
    rows = [{"text": row} for row, _ in pairs]
    answer = client.post("/v1/models/python/predict", json={"rows": rows})
    assert answer.status_code == 200, answer.text
    told: list[dict[str, Any]] = answer.json()["predictions"]
    labels = [
        {"id": one["id"], "label": label} for one, (_, label) in zip(told, pairs, strict=True)
    ]
    assert client.post("/v1/labels", json={"labels": labels}).status_code == 200
    return told


def test_a_text_is_continued_and_scored_and_another_style_is_a_loss(
    coder: TestClient, site: Site
) -> None:
    pairs = windows(OURS, 60, step=11)
    with coder as client:
        ours = ask(client, pairs)
        right = [
            one["prediction"][0] == told[0] for one, (_, told) in zip(ours, pairs, strict=True)
        ]
        assert sum(right) > 48
        assert max(one["bits_per_byte"] for one in ours) < 3
        empty = client.post("/v1/models/python/predict", json={"rows": [{"text": ""}]})
        assert empty.status_code == 422
        assert "Row 0 has 0 characters" in empty.text

        theirs = [one for _ in range(3) for one in ask(client, windows(THEIRS, 60))]

        assert min(one["bits_per_byte"] for one in theirs) > 3

        def fell() -> bool:
            with transaction(sessions(connect(site.settings.database))) as session:
                return "loss" in {one.kind for one in incident_history(session, "python")}

        site.wait_for(fell)
