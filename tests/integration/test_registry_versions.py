"""Versions on a real MLflow server: registered once, fetched whole, served without it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import pytest
from mlflow import MlflowClient

from homeostat.errors import ArtifactError, Unavailable, UnknownVersion
from models import write_manifest
from registry import MlflowVersions
from registry.mlflow_api import MlflowRefused


@pytest.fixture
def versions(mlflow_url: str) -> Iterator[MlflowVersions]:
    client = MlflowVersions(mlflow_url)
    yield client
    client.close()


@pytest.fixture
def model() -> str:
    """A model's name that no other test uses."""
    return f"digits-{uuid4().hex[:8]}"


def make_run(url: str, folder: Path, content: bytes = b"weights") -> tuple[str, str]:
    """A run with a sealed `model/` and `replay/`: its id and the digest of the model."""
    client = MlflowClient(url)
    experiment = client.get_experiment_by_name("t")
    experiment_id = experiment.experiment_id if experiment else client.create_experiment("t")
    run = client.create_run(experiment_id)
    digest = ""
    for part in ("replay", "model"):
        (folder / part).mkdir(parents=True)
        (folder / part / "learner.json").write_text("{}")
        (folder / part / "model.safetensors").write_bytes(content + part.encode())
        digest = write_manifest(folder / part)
        client.log_artifacts(run.info.run_id, str(folder / part), part)
    return run.info.run_id, digest


def test_the_same_work_registers_once(
    versions: MlflowVersions, mlflow_url: str, model: str, tmp_path: Path
) -> None:
    run_id, digest = make_run(mlflow_url, tmp_path)
    first = versions.register(model, run_id, "model", digest, "work-1", {"a": "b"}, "# Card")
    assert first == 1
    assert versions.register(model, run_id, "model", digest, "work-1") == 1
    assert versions.register(model, run_id, "model", digest, "work-2") == 2
    known = versions.list_versions(model)
    assert [info.version for info in known] == [1, 2]
    assert known[0].digest == digest
    assert known[0].run_id == run_id
    assert known[0].description == "# Card"
    assert versions.version_tags(model, 1)["a"] == "b"
    assert versions.digest(model, 1) == digest
    # MLflow's own client sees what its page shows.
    assert MlflowClient(mlflow_url).get_model_version(model, "1").run_id == run_id


def test_work_registered_by_many_at_once_is_one_version(
    versions: MlflowVersions, mlflow_url: str, model: str, tmp_path: Path
) -> None:
    run_id, digest = make_run(mlflow_url, tmp_path)
    numbers: list[int] = []
    failures: list[BaseException] = []
    barrier = threading.Barrier(5, timeout=60)

    def register() -> None:
        try:
            client = MlflowVersions(mlflow_url, timeout=30.0)
            barrier.wait()
            numbers.append(client.register(model, run_id, "model", digest, "work-1"))
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=register) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(set(numbers)) == 1
    assert [info.version for info in versions.list_versions(model)] == numbers[:1]


def test_a_double_that_a_killed_race_left_is_removed(
    versions: MlflowVersions, mlflow_url: str, model: str, tmp_path: Path
) -> None:
    run_id, digest = make_run(mlflow_url, tmp_path)
    versions.register(model, run_id, "model", digest, "work-1")
    versions.register(model, run_id, "model", digest, "work-2")
    versions.tag(model, 2, {"homeostat.work_key": "work-1"})
    assert versions.register(model, run_id, "model", digest, "work-1") == 1
    assert not versions.exists(model, 2)


def test_a_run_that_is_not_there_is_refused(versions: MlflowVersions, model: str) -> None:
    with pytest.raises(MlflowRefused, match="not found"):
        versions.register(model, "0" * 32, "model", "a" * 64, "work-1")


def test_aliases_are_read_set_followed_and_deleted(
    versions: MlflowVersions, mlflow_url: str, model: str, tmp_path: Path
) -> None:
    assert versions.aliases(model) == {}
    versions.delete_alias(model, "champion")
    run_id, digest = make_run(mlflow_url, tmp_path)
    for key in ("1", "2", "3"):
        versions.register(model, run_id, "model", digest, key)
    assert versions.aliases(model) == {}
    versions.set_alias(model, "champion", 1)
    MlflowClient(mlflow_url).set_registered_model_alias(model, "mine", "3")
    assert versions.aliases(model) == {"champion": 1, "mine": 3}
    wanted = {"champion": 2, "standby": 1, "challenger": None}
    assert versions.follow(model, wanted) == {"champion": 2, "standby": 1, "mine": 3}
    assert versions.follow(model, {"champion": 2, "standby": None}) == {"champion": 2, "mine": 3}
    versions.delete_alias(model, "champion")
    versions.delete_alias(model, "champion")
    assert versions.aliases(model) == {"mine": 3}


def test_a_missing_version_is_unknown(versions: MlflowVersions, model: str) -> None:
    assert not versions.exists(model, 1)
    assert versions.list_versions(model) == []
    for call in (
        lambda: versions.version_tags(model, 9),
        lambda: versions.set_alias(model, "champion", 9),
        lambda: versions.tag(model, 9, {"a": "b"}),
        lambda: versions.fetch(model, 9, Path("nowhere")),
    ):
        with pytest.raises(UnknownVersion):
            call()


def test_a_fetched_version_is_served_without_mlflow_and_after_a_restart(
    run_mlflow: Callable[[Path], AbstractContextManager[str]], tmp_path: Path, model: str
) -> None:
    folder, cache = tmp_path / "mlflow", tmp_path / "cache"
    folder.mkdir()
    with run_mlflow(folder) as url:
        run_id, digest = make_run(url, tmp_path / "made")
        versions = MlflowVersions(url)
        versions.register(model, run_id, "model", digest, "work-1")
        copy = versions.fetch(model, 1, cache)
        assert copy == cache / digest
        assert (copy / "model.safetensors").read_bytes() == b"weightsmodel"
        replay = versions.fetch(model, 1, cache, "replay")
        assert (replay / "model.safetensors").read_bytes() == b"weightsreplay"
        assert [path.name for path in cache.iterdir() if path.name.startswith(".")] == []
    again = MlflowVersions(url, timeout=1.0)
    assert again.fetch(model, 1, cache) == copy
    assert again.fetch(model, 1, cache, "replay") == replay
    assert again.fetch(model, 1, cache, digest=digest) == copy
    for call in (
        lambda: again.aliases(model),
        lambda: again.fetch(model, 2, cache),
        lambda: again.fetch(model, 1, tmp_path / "empty"),
        lambda: again.fetch(model, 1, tmp_path / "empty", digest=digest),
        lambda: again.register(model, run_id, "model", digest, "work-1"),
    ):
        started = time.monotonic()
        with pytest.raises(Unavailable):
            call()
        assert time.monotonic() - started < 5.0


def test_a_version_that_is_not_what_was_registered_is_refused(
    versions: MlflowVersions, mlflow_url: str, mlflow_folder: Path, model: str, tmp_path: Path
) -> None:
    run_id, digest = make_run(mlflow_url, tmp_path / "made")
    versions.register(model, run_id, "model", digest, "work-1")
    (stored,) = (mlflow_folder / "artifacts").glob(f"*/{run_id}/artifacts/model")
    (stored / "model.safetensors").write_bytes(b"swapped.model")
    with pytest.raises(ArtifactError):
        versions.fetch(model, 1, tmp_path / "cache")
    (stored / "model.safetensors").write_bytes(b"weightsmodel")
    copy = versions.fetch(model, 1, tmp_path / "cache")
    # A copy that the disk spoilt is fetched again.
    (copy / "learner.json").chmod(0o644)
    (copy / "learner.json").write_text("[]")
    assert versions.fetch(model, 1, tmp_path / "cache") == copy
    assert (copy / "learner.json").read_text() == "{}"
    # And when somebody swaps the whole artifact, the digest of the registration still counts.
    (stored / "learner.json").write_text('{"evil": 1}')
    write_manifest(stored)
    with pytest.raises(ArtifactError, match="not the one"):
        versions.fetch(model, 1, tmp_path / "other")
    (stored / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match="no artifact"):
        versions.fetch(model, 1, tmp_path / "other")


def test_a_version_without_a_digest_is_refused(
    versions: MlflowVersions, mlflow_url: str, model: str, tmp_path: Path
) -> None:
    run_id, _ = make_run(mlflow_url, tmp_path)
    client = MlflowClient(mlflow_url)
    client.create_registered_model(model)
    client.create_model_version(model, f"runs:/{run_id}/model", run_id)
    with pytest.raises(ArtifactError, match="without a digest"):
        versions.fetch(model, 1, tmp_path / "cache")


@pytest.mark.parametrize("way", ["garbage", "list", "500", "redirect", "silence", "short"])
def test_a_broken_server_is_unavailable_soon(way: str, tmp_path: Path) -> None:
    with _broken_server(way) as url:
        versions = MlflowVersions(url, timeout=0.5)
        for call in (
            lambda: versions.aliases("digits"),
            lambda: versions.fetch("digits", 1, tmp_path),
        ):
            started = time.monotonic()
            with pytest.raises(Unavailable):
                call()
            assert time.monotonic() - started < 5.0


@contextmanager
def _broken_server(way: str) -> Iterator[str]:
    done = threading.Event()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if way == "silence":
                done.wait(10)
                return
            self.send_response({"500": 500, "redirect": 302}.get(way, 200))
            if way == "redirect":
                self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", "100" if way == "short" else "2")
            self.end_headers()
            self.wfile.write({"garbage": b"<>", "list": b"[]"}.get(way, b"{}"))

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        done.set()
        server.shutdown()
        thread.join()
        server.server_close()
