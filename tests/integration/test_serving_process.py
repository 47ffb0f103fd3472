"""The gateway as a process: killed, asked to end, and sent more than it takes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
import torch

from homeostat.clock import utc_now
from models.artifact import save_model
from models.digits import Digits
from monitoring.profile import Profile
from registry import connect, find_predictions, promote, sessions, transaction
from registry.cache import ArtifactCache

ROOT = Path(__file__).resolve().parents[2]
AUTH = {"Authorization": "Bearer the-token"}
ROW = {"row": [0.0] * 64}


@pytest.fixture
def state(tmp_path: Path, migrated_sqlite: Path) -> Path:
    """A state folder whose champion is an untrained net: what it says does not matter here."""
    state = tmp_path / "state"
    (state / "versions").mkdir(parents=True)
    shutil.copy(migrated_sqlite, state / "lifecycle.db")
    learner = Digits.from_data([[float(n % 17)] * 64 for n in range(20)], list(range(10)) * 2, {})
    module = learner.build(torch.Generator().manual_seed(0))
    x = learner.encode([[float(n % 17)] * 64 for n in range(20)])
    outputs = learner.predict(module, x)
    profile = Profile.from_reference(
        learner.features,
        learner.task,
        learner.observe(x),
        learner.predicted(outputs),
        learner.confidence(outputs),
        [0.0] * 20,
    )
    made = tmp_path / "made"
    extra = {"profile.json": profile.to_json().encode()}
    digest = save_model(made, "digits", learner, module, extra)
    made.rename(state / "versions" / digest)
    ArtifactCache(state / "versions").remember("digits", 1, digest)
    with transaction(sessions(connect(f"sqlite:///{state / 'lifecycle.db'}"))) as session:
        promote(
            session,
            "digits",
            1,
            actor="test",
            reason="the test says so",
            evidence={},
            now=utc_now(),
            digest=digest,
        )
    return state


@contextmanager
def running(state: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A gateway process that is ready, and its address."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "HOMEOSTAT_STATE_DIR": str(state),
        "HOMEOSTAT_TOKEN": "the-token",
        "HOMEOSTAT_GATEWAY_PORT": str(port),
        "HOMEOSTAT_MLFLOW_URL": "http://127.0.0.1:9",
        "HOMEOSTAT_PREFECT_URL": "http://127.0.0.1:9/api",
        "HOMEOSTAT_CONFIG": str(state / "none.toml"),
    }
    log = (state / "gateway.log").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-m", "serving"], cwd=ROOT, env=environment, stdout=log, stderr=log
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                if httpx.get(f"{url}/health/ready", trust_env=False).json()["models"]:
                    break
            except httpx.HTTPError:
                assert process.poll() is None, (state / "gateway.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield process, url
    finally:
        process.kill()
        process.wait(10)
        log.close()


class Callers:
    """Threads that ask without end and note every id that they were given."""

    def __init__(self, url: str, count: int = 4) -> None:
        self.ids: list[str] = []
        self.refused: list[httpx.Response] = []
        self.broken = 0
        self._url = f"{url}/v1/models/digits/predict"
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + 60
        while len(self.ids) < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _ask(self) -> None:
        with httpx.Client(headers=AUTH, trust_env=False) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post(self._url, json=ROW)
                except httpx.HTTPError:
                    self.broken += 1
                    return
                if answer.status_code == 200:
                    self.ids.append(answer.json()["predictions"][0]["id"])
                else:
                    self.refused.append(answer)


def logged(state: Path, ids: list[str]) -> set[str]:
    with transaction(sessions(connect(f"sqlite:///{state / 'lifecycle.db'}"))) as session:
        return set(find_predictions(session, ids))


def test_nothing_that_was_answered_is_lost_when_the_process_is_killed(state: Path) -> None:
    ids: list[str] = []
    for _ in range(2):
        with running(state) as (process, url):
            callers = Callers(url)
            callers.wait_for(200)
            process.send_signal(signal.SIGKILL)
            process.wait(10)
            callers.stop()
            assert callers.refused == []
            ids += callers.ids
    with running(state) as (process, _):
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    assert logged(state, ids) == set(ids)
    assert len(set(ids)) == len(ids)


def test_a_process_that_is_asked_to_end_finishes_and_leaves_nothing_behind(state: Path) -> None:
    with running(state) as (process, url):
        callers = Callers(url)
        callers.wait_for(100)
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait(20)
        assert time.monotonic() - asked < 10
        callers.stop()
    assert code == 0
    assert callers.refused == []
    assert logged(state, callers.ids) == set(callers.ids)
    assert list((state / "spool").iterdir()) == []


@pytest.mark.parametrize("path", ["/v1/models/digits/predict", "/v1/labels"])
def test_a_hundred_megabytes_are_refused_without_being_taken_in(state: Path, path: str) -> None:
    size = 100 * 1024 * 1024
    with running(state) as (process, url):
        host, port = url.removeprefix("http://").split(":")
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer the-token\r\n"
        for framing in (f"Content-Length: {size}", "Transfer-Encoding: chunked"):
            with socket.create_connection((host, int(port)), timeout=20) as connection:
                connection.sendall(f"{head}{framing}\r\n\r\n".encode())
                sent = 0
                part = b"x" * 65536
                chunk = part if "Length" in framing else b"10000\r\n" + part + b"\r\n"
                try:
                    while sent < size:
                        sent += connection.send(chunk)
                except OSError:
                    pass  # the gateway has hung up, as it should
                answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 413"), answer[:200]
            assert b"too-large" in answer
            assert sent < size / 2
        ok = httpx.post(f"{url}/v1/models/digits/predict", json=ROW, headers=AUTH, trust_env=False)
        assert ok.status_code == 200
        assert process.poll() is None
