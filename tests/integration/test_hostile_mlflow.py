"""Artifacts tampered with on a real MLflow server's disk: what served before serves on."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from mlflow import MlflowClient
from pydantic import SecretStr

from homeostat.clock import utc_now
from homeostat.errors import ArtifactError
from homeostat.policy import Policy
from homeostat.settings import Settings
from registry import (
    MlflowVersions,
    Verdict,
    connect,
    quarantined,
    record_verdict,
    sessions,
    transaction,
)
from serving.app import create_app
from serving.gateway import Gateway

AUTH = {"Authorization": "Bearer the-token"}
ROW = [float(n % 17) for n in range(64)]


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come true in time")


class Shelf:
    """Versions in MLflow, and where the server keeps their files."""

    def __init__(self, url: str, root: Path, model: str) -> None:
        self.page = MlflowClient(url)
        self.store = MlflowVersions(url)
        self.model = model
        self._root = root
        known = self.page.get_experiment_by_name("hostile")
        self._experiment = known.experiment_id if known else self.page.create_experiment("hostile")

    def register(self, folder: Path, digest: str) -> tuple[int, Path]:
        """A version of a folder, and the folder on the server's disk."""
        run = self.page.create_run(self._experiment).info
        self.page.log_artifacts(run.run_id, str(folder), "model")
        version = self.store.register(self.model, run.run_id, "model", digest, uuid4().hex)
        kept = self._root / run.artifact_uri.removeprefix("mlflow-artifacts:/") / "model"
        assert (kept / "manifest.json").is_file()
        return version, kept


@pytest.fixture
def shelf(mlflow_url: str, mlflow_folder: Path) -> Shelf:
    return Shelf(mlflow_url, mlflow_folder / "artifacts", f"digits-{uuid4().hex[:8]}")


def cut(kept: Path) -> None:
    path = kept / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def flip(kept: Path) -> None:
    path = kept / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def grow(kept: Path) -> None:
    with (kept / "model.safetensors").open("ab") as file:
        file.write(bytes(1024))


def swell(kept: Path) -> None:
    with (kept / "learner.json").open("ab") as file:
        file.truncate(64 * 1024**2)


def replace(kept: Path) -> None:
    (kept / "manifest.json").write_text('{"files":{},"schema":1}')


def link(kept: Path) -> None:
    (kept / "profile.json").unlink()
    (kept / "profile.json").symlink_to("/etc/passwd")


def remove(kept: Path) -> None:
    (kept / "profile.json").unlink()


def directory(kept: Path) -> None:
    (kept / "profile.json").unlink()
    (kept / "profile.json").mkdir()


@pytest.mark.parametrize("attack", [cut, flip, grow, swell, replace, link, remove, directory])
def test_what_was_changed_on_the_servers_disk_is_not_fetched(
    shelf: Shelf,
    untrained: dict[int, tuple[Path, str]],
    tmp_path: Path,
    attack: Callable[[Path], None],
) -> None:
    version, kept = shelf.register(*untrained[1])
    attack(kept)
    with pytest.raises(ArtifactError):
        shelf.store.fetch(shelf.model, version, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_version_swapped_after_its_approval_never_answers(
    shelf: Shelf,
    untrained: dict[int, tuple[Path, str]],
    mlflow_url: str,
    tmp_path: Path,
    migrated_sqlite: Path,
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    shutil.copy(migrated_sqlite, state / "lifecycle.db")
    model = shelf.model
    settings = Settings(
        state_dir=state,
        token=SecretStr("the-token"),
        mlflow_url=mlflow_url,
        prefect_url="http://127.0.0.1:9/api",
        poll_seconds=0.2,
        models={model: Policy()},
    )
    maker = sessions(connect(settings.database))
    versions = {}
    for number in (1, 2):
        version, kept = shelf.register(*untrained[number])
        versions[number] = version
        with transaction(maker) as session:
            verdict = Verdict(True, (), untrained[number][1])
            record_verdict(session, model, version, verdict, utc_now())
    shutil.rmtree(kept)  # after the approval, somebody with a shell puts another in its place
    shutil.copytree(untrained[3][0], kept)
    with TestClient(create_app(settings, Gateway(settings)), headers=AUTH) as client:

        def answers() -> int:
            answer = client.post(f"/v1/models/{model}/predict", json={"rows": [ROW]})
            return int(answer.json()["version"]) if answer.status_code == 200 else 0

        shelf.page.set_registered_model_alias(model, "champion", str(versions[1]))
        wait_for(lambda: answers() == versions[1])
        page = shelf.page
        wait_for(
            lambda: (
                page.get_model_version(model, str(versions[1])).tags.get("lifecycle.state")
                == "serving"
            )
        )
        page.set_registered_model_alias(model, "champion", str(versions[2]))

        def pages() -> list[str]:
            found = client.get(f"/v1/incidents?every=true&model={model}").json()["incidents"]
            paged = [one for one in found if one["severity"] == "page"]
            return [str(event["text"]) for one in paged for event in one["events"]]

        wait_for(lambda: any("suspect" in text for text in pages()))
        assert answers() == versions[1]
        with transaction(maker) as session:
            barred = quarantined(session, model, untrained[2][1])
        assert barred is not None
        assert "not the one with digest" in barred.reason
        wait_for(
            lambda: shelf.page.get_registered_model(model).aliases["champion"] == str(versions[1])
        )
        body = {"version": versions[2], "reason": "I want it", "override": True}
        answer = client.post(f"/v1/models/{model}/promote", json=body)
        assert answer.status_code == 409
        assert answer.json()["code"] == "artifact-suspect"
        assert answers() == versions[1]
        assert client.get("/health/ready").status_code == 200
