"""Nothing live can be lost: faults made for real on an MLflow of these tests' own.

A gateway process answers an outside caller all the while; alerts go to a real HTTP receiver.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from mlflow import MlflowClient
from pydantic import SecretStr
from sqlalchemy.orm import Session

from homeostat.client import Gateway
from homeostat.clock import utc_now
from homeostat.demo.receiver import AlertReceiver
from homeostat.errors import HomeostatError
from homeostat.settings import Settings
from models.artifact import write_manifest
from registry import MlflowVersions, Verdict, connect, promote, record_verdict, sessions
from registry.cache import ArtifactCache
from registry.custody import Pins
from registry.database import transaction
from registry.ledger import lines_of
from registry.routing import current_routing
from tests.asking import ask

ROOT = Path(__file__).resolve().parents[2]
MODEL = "digits"
SOON = 10.0  # seconds in which an alert has to come
Untrained = dict[int, tuple[Path, str]]


class Installation:
    """MLflow with versions of `digits`, a gateway process before it, and one who is on call."""

    def __init__(
        self, url: str, folder: Path, untrained: Untrained, receiver: AlertReceiver
    ) -> None:
        self.url = url
        self.folder = folder
        self.receiver = receiver
        self.page = MlflowClient(url)
        self.store = MlflowVersions(url)
        self.stop_mlflow: Callable[[], None]
        self._untrained = untrained
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.settings = Settings(
            state_dir=folder / "state",
            token=SecretStr("the-token"),
            gateway_port=port,
            mlflow_url=url,
            prefect_url="http://127.0.0.1:9/api",
        )
        self._process: subprocess.Popen[bytes] | None = None

    def register(self, net: int) -> int:
        """A version as the pipeline leaves it: model, replay, card and verdict in one run."""
        folder, digest = self._untrained[net]
        known = self.page.get_experiment_by_name(MODEL)
        experiment = known.experiment_id if known else self.page.create_experiment(MODEL)
        run = self.page.create_run(experiment, run_name="pipeline").info.run_id
        self.page.log_param(run, "epochs", "30")
        self.page.log_metric(run, "accuracy", 0.97)
        self.page.log_artifacts(run, str(folder), "model")
        replay = self.folder / f"replay-{uuid4().hex}"
        replay.mkdir()
        (replay / "memory.json").write_text("{}")
        write_manifest(replay)
        self.page.log_artifacts(run, str(replay), "replay")
        self.page.log_text(run, "# A card\n", "model_card.md")
        self.page.set_terminated(run)
        version = self.store.register(
            MODEL, run, "model", digest, uuid4().hex, {"team": "vision"}, "What it is."
        )
        with self.session() as session:
            record_verdict(session, MODEL, version, Verdict(True, (), digest), utc_now())
        return version

    def serve(self, version: int, digest: str) -> None:
        with self.session() as session:
            promote(
                session,
                MODEL,
                version,
                actor="test",
                reason="the test says so",
                evidence={},
                now=utc_now(),
                digest=digest,
            )

    def session(self) -> AbstractContextManager[Session]:
        return transaction(sessions(connect(self.settings.database)))

    def start(self) -> None:
        environment = os.environ | {
            "HOMEOSTAT_STATE_DIR": str(self.settings.state_dir),
            "HOMEOSTAT_TOKEN": "the-token",
            "HOMEOSTAT_GATEWAY_PORT": str(self.settings.gateway_port),
            "HOMEOSTAT_MLFLOW_URL": self.url,
            "HOMEOSTAT_PREFECT_URL": "http://127.0.0.1:9/api",
            "HOMEOSTAT_CONFIG": str(self.folder / "homeostat.toml"),
        }
        log = (self.folder / "gateway.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "serving"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
        wait_for(self._ready, 120.0)

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "gateway.log").read_text()[-4000:]
        try:
            ready = ask("GET", f"{self.settings.gateway_address}/health/ready")
        except httpx.HTTPError:
            return False
        return bool(ready.json()["models"])

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def pinned(self) -> list[dict[str, Any]]:
        with Gateway.of(self.settings) as gateway:
            return gateway.pins(MODEL)

    def pinned_files(self, part: str) -> list[Path]:
        """The files of a part of every copy on the gateway's disk."""
        copies = (self.settings.state_dir / "versions").glob(f"*.{part}")
        return sorted(path for copy in copies for path in copy.iterdir() if "memory" in path.name)

    def heard(self, words: str, since: int = 0, status: str = "") -> dict[str, Any] | None:
        """The first alert after `since` others whose text holds the words."""
        for alert in self.receiver.alerts[since:]:
            fits = words in alert.data["text"] and status in ("", alert.data["status"])
            if fits:
                return alert.data
        return None

    def answers(self) -> dict[str, Any]:
        with Gateway.of(self.settings) as gateway:
            return gateway.predict(MODEL, [[0.0] * 64])


class Caller:
    """Asks without end, and notes every answer that is not one."""

    def __init__(self, settings: Settings) -> None:
        self.digests: set[str] = set()
        self.count = 0
        self.failed: list[str] = []
        self._settings = settings
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Caller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _ask(self) -> None:
        with Gateway.of(self._settings) as gateway:
            while not self._stop.wait(0.02):
                try:
                    self.digests.add(gateway.predict(MODEL, [[0.0] * 64])["digest"])
                    self.count += 1
                except HomeostatError as error:
                    self.failed.append(str(error))


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


RunMlflow = Callable[[Path], AbstractContextManager[str]]


@contextmanager
def installed(
    folder: Path, migrated: Path, run_mlflow: RunMlflow, untrained: Untrained
) -> Iterator[Installation]:
    """Version 1 is standby, version 2 champion; all is pinned and written to MLflow."""
    (folder / "state").mkdir()
    shutil.copy(migrated, folder / "state" / "lifecycle.db")
    with AlertReceiver() as receiver, ExitStack() as mlflow:
        url = mlflow.enter_context(run_mlflow(folder))
        policy = f'[models.digits]\nalerts = ["{receiver.address}"]\n'
        (folder / "homeostat.toml").write_text(policy)
        here = Installation(url, folder, untrained, receiver)
        here.stop_mlflow = mlflow.close
        for net in (1, 2):
            here.serve(here.register(net), untrained[net][1])
        here.start()
        try:
            wait_for(lambda: [one["whole"] for one in here.pinned()] == [True, True])
            wait_for(lambda: here.store.aliases(MODEL) == {"champion": 2, "standby": 1})
            yield here
        finally:
            here.stop()
            here.store.close()


def test_what_mlflow_loses_serves_on_is_told_and_comes_back(
    tmp_path: Path,
    migrated_sqlite: Path,
    run_mlflow: RunMlflow,
    untrained: Untrained,
) -> None:
    with installed(tmp_path, migrated_sqlite, run_mlflow, untrained) as here:
        digest = untrained[2][1]
        with Caller(here.settings) as caller:
            _the_live_version_is_deleted(here, digest)
            _the_model_is_renamed(here, digest)
            _the_run_is_deleted_and_collected(here, digest)
            _the_artifact_store_is_lost(here)
        assert caller.failed == []
        assert caller.count > 100
        assert caller.digests == {digest}
        _a_restart_serves_on(here, digest)
        _mlflow_goes_away(here, digest)


def _the_live_version_is_deleted(here: Installation, digest: str) -> None:
    already = len(here.receiver.alerts)
    here.page.delete_model_version(MODEL, "2")
    words = "Version 2 of digits, which answers traffic, was deleted in MLflow."
    wait_for(lambda: here.heard(words, already), SOON)
    told = here.heard(words, already)
    assert told is not None
    assert "homeostat restore digits --version 2" in told["text"]
    assert (told["status"], told["severity"]) == ("open", "page")
    assert told["details"]["kind"] == "registry"
    with Gateway.of(here.settings) as gateway:
        done = gateway.restore(MODEL, None, "it is needed")
    (back,) = done["restored"]
    assert (back["was"], back["version"], back["digest"]) == (2, 3, digest)
    kept = Pins(ArtifactCache(here.settings.state_dir / "versions")).find(MODEL, 3)
    assert kept is not None  # at once, and all of it, whatever MLflow loses next
    assert set(kept.seals) == {"model", "replay", "papers"}
    wait_for(lambda: here.store.aliases(MODEL) == {"champion": 3, "standby": 1})
    assert here.answers()["version"] == 3
    info = here.store.version(MODEL, 3)
    assert info.digest == digest
    assert (info.tags["team"], info.tags["homeostat.restored_from"]) == ("vision", "2")
    assert "What it is." in info.description
    run = here.page.get_run(info.run_id)
    assert (run.data.params, run.data.metrics) == ({"epochs": "30"}, {"accuracy": 0.97})
    again = here.store.fetch(MODEL, 3, here.folder / "elsewhere")  # past every copy of ours
    assert again.name == digest
    here.store.fetch(MODEL, 3, here.folder / "elsewhere", part="replay", digest=digest)
    with here.session() as session:
        line = next(one for one in lines_of(session, MODEL) if one.kind == "restore")
        routing = current_routing(session, MODEL)
    assert (line.before, line.after, line.version, line.digest) == ("2", "3", 3, digest)
    assert routing is not None
    assert "version 2 is 3 now" in routing.reason
    resolved = "Version 2 is version 3 now"
    wait_for(lambda: here.heard(resolved, already, "resolved"), SOON)
    assert sum(words in one.data["text"] for one in here.receiver.alerts if one) == 2


def _the_model_is_renamed(here: Installation, digest: str) -> None:
    already = len(here.receiver.alerts)
    wait_for(lambda: {one["role"] for one in here.pinned() if one["whole"]} >= {"champion"})
    here.page.rename_registered_model(MODEL, "numerals")
    words = "The model digits is gone from MLflow: it was renamed to numerals there."
    wait_for(lambda: here.heard(words, already), SOON)
    here.page.rename_registered_model("numerals", MODEL)
    wait_for(lambda: here.heard("It is mended.", already, "resolved"), SOON)
    here.page.rename_registered_model(MODEL, "numerals")
    wait_for(lambda: here.heard(words, len(here.receiver.alerts) - 1), SOON)
    with Gateway.of(here.settings) as gateway:
        done = gateway.restore(MODEL, None, "the name is ours")
    numbers = {one["was"]: one["version"] for one in done["restored"]}
    assert set(numbers) == {1, 3}
    assert min(numbers.values()) > 3  # a number stands for one artifact, whatever MLflow forgot
    wanted = {"champion": numbers[3], "standby": numbers[1]}
    wait_for(lambda: here.store.aliases(MODEL) == wanted)
    assert here.answers()["digest"] == digest


def _the_run_is_deleted_and_collected(here: Installation, digest: str) -> None:
    already = len(here.receiver.alerts)
    champion = here.answers()["version"]
    run = here.store.version(MODEL, champion).run_id
    here.page.delete_run(run)
    soon = f"The run that holds version {champion} of digits, which answers traffic, was deleted"
    wait_for(lambda: here.heard(soon, already), SOON)
    already = len(here.receiver.alerts)
    command = [sys.executable, "-m", "mlflow", "gc", "--run-ids", run]
    command += ["--backend-store-uri", f"sqlite:///{here.folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(here.folder / "artifacts")]
    environment = os.environ | {"MLFLOW_TRACKING_URI": here.url}
    subprocess.run(command, check=True, capture_output=True, timeout=120, env=environment)
    gone = f"version {champion} of digits, which answers traffic,"
    wait_for(lambda: here.heard(gone, already), SOON)
    told = here.heard(gone, already)
    assert told is not None
    assert "gone from MLflow" in told["text"] or "cannot be read in MLflow" in told["text"]
    with Gateway.of(here.settings) as gateway:
        (back,) = gateway.restore(MODEL, champion, "collected")["restored"]
        assert back["digest"] == digest
        with pytest.raises(HomeostatError, match="whole") as nothing:
            gateway.restore(MODEL, None, "again")
        assert nothing.value.code == "nothing-to-restore"
        with pytest.raises(HomeostatError) as unknown:
            gateway.restore(MODEL, 99, "which?")
        assert unknown.value.code == "unknown-version"


def _the_artifact_store_is_lost(here: Installation) -> None:
    already = len(here.receiver.alerts)
    champion = here.answers()["version"]
    shutil.rmtree(here.folder / "artifacts")
    words = (
        f"The artifact of version {champion} of digits, which answers traffic, cannot be read"
        " in MLflow."
    )
    wait_for(lambda: here.heard(words, already), SOON)


def _a_restart_serves_on(here: Installation, digest: str) -> None:
    """With the artifacts gone, and a spoilt copy of the standby found when it starts."""
    already = len(here.receiver.alerts)
    here.stop()
    standby = next(one for one in here.pinned_files("replay"))
    standby.chmod(0o644)
    standby.write_text('{"spoilt": true}')
    here.start()
    assert here.answers()["digest"] == digest
    wait_for(lambda: here.heard("The pinned copy of version", already), SOON + 10)
    assert here.answers()["digest"] == digest


def _mlflow_goes_away(here: Installation, digest: str) -> None:
    already = len(here.receiver.alerts)
    here.stop_mlflow()
    wait_for(lambda: here.heard("MLflow does not answer", already), SOON)
    here.stop()
    here.start()
    assert here.answers()["digest"] == digest
    with Gateway.of(here.settings) as gateway, pytest.raises(HomeostatError) as away:
        gateway.restore(MODEL, None, "too soon")
    assert away.value.code == "unavailable"
