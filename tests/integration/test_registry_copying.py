"""A version carried from one environment's MLflow to another's, both real."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from homeostat.cli import app
from homeostat.errors import ArtifactError, UnknownVersion
from homeostat.settings import get_settings
from models.artifact import load_model
from registry import MlflowVersions, connect, sessions, transaction, upgrade
from registry.ledger import lines_of

if TYPE_CHECKING:
    from tests.integration.mlflow_servers import MlflowServer


def registered(url: str, model: str, folder: Path, digest: str) -> None:
    """Version 1 of a model as the pipeline leaves it: its files, its card, its figures."""
    page = MlflowClient(url)
    run = page.create_run(page.create_experiment(model), run_name="pipeline").info.run_id
    page.log_metric(run, "accuracy", 0.97)
    page.log_artifacts(run, str(folder), "model")
    page.log_text(run, "# A card\n", "model_card.md")
    page.set_terminated(run)
    store = MlflowVersions(url)
    store.register(model, run, "model", digest, uuid4().hex, {"team": "vision"}, "What it is.")


def test_a_version_is_the_same_in_another_environment(
    mlflow_server: MlflowServer,
    run_mlflow: Callable[[Path], AbstractContextManager[str]],
    untrained: dict[int, tuple[Path, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, (folder, digest) = f"digits-{uuid4().hex[:8]}", untrained[1]
    registered(mlflow_server.url, model, folder, digest)
    monkeypatch.setenv("HOMEOSTAT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("HOMEOSTAT_MLFLOW_URL", mlflow_server.url)
    monkeypatch.setenv("HOMEOSTAT_MODELS", json.dumps({model: {}}))
    get_settings.cache_clear()
    settings = get_settings()
    upgrade(settings.database)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def copy(version: int, url: str) -> dict[str, object]:
        words = ["copy", model, "--version", str(version), "--to", url]
        done = CliRunner().invoke(app, [*words, "--reason", "it may go live", "--json"])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return dict(json.loads(done.stdout))

    with run_mlflow(elsewhere) as url:
        first, again = copy(1, url), copy(1, url)

        assert first == again == {"model": model, "version": 1, "digest": digest, "at": url}
        there = MlflowVersions(url)
        assert there.aliases(model) == {}
        found = there.version(model, 1)
        assert found.tags["team"] == "vision"
        assert found.tags["homeostat.copied_from"] == "1"
        assert found.description.startswith("A copy of version 1, same digest. It comes from")
        copied = there.fetch(model, 1, tmp_path / "cache")
        assert load_model(copied, allowed=["digits"], digest=digest).digest == digest
        page = MlflowClient(url)
        assert page.get_run(found.run_id).data.metrics == {"accuracy": 0.97}
        assert [item.path for item in page.list_artifacts(found.run_id)] == [
            "model",
            "model_card.md",
        ]
        with pytest.raises(UnknownVersion, match="no version 7"):
            copy(7, url)

        kept = next((mlflow_server.folder / "artifacts").rglob(f"*/{found.run_id}"), None)
        assert kept is None, "the copy lies in the other store"
        weights = next(
            path
            for path in (mlflow_server.folder / "artifacts").rglob("model.safetensors")
            if path.read_bytes() == (folder / "model.safetensors").read_bytes()
            and MlflowVersions(mlflow_server.url).version(model, 1).run_id in str(path)
        )
        content = weights.read_bytes()
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(ArtifactError):
            copy(1, url)

    with transaction(sessions(connect(settings.database))) as session:
        lines = lines_of(session, model)
    assert [(line.kind, line.after, line.digest) for line in lines] == [
        ("copy", f"version 1 at {url}", digest)
    ] * 2
    get_settings.cache_clear()
