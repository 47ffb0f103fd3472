"""The gateway as a process: killed, asked to end, and sent more than it takes."""

from __future__ import annotations

import asyncio
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
from typing import Any

import httpx
import pytest
import torch

from homeostat.client import AsyncClient, Client
from homeostat.clock import utc_now
from homeostat.errors import InvalidRow, UnknownModel
from models.artifact import load_model, save_model
from models.digits import Digits
from monitoring.profile import Profile
from registry import connect, find_predictions, promote, sessions, transaction
from registry.cache import ArtifactCache
from tests.asking import ask

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
def running(state: Path, **more: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A gateway process that is ready, and its address."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = (
        os.environ
        | {
            "HOMEOSTAT_STATE_DIR": str(state),
            "HOMEOSTAT_TOKEN": "the-token",
            "HOMEOSTAT_GATEWAY_PORT": str(port),
            "HOMEOSTAT_MLFLOW_URL": "http://127.0.0.1:9",
            "HOMEOSTAT_PREFECT_URL": "http://127.0.0.1:9/api",
            "HOMEOSTAT_CONFIG": str(state / "none.toml"),
        }
        | more
    )
    log = (state / "gateway.log").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-m", "serving"], cwd=ROOT, env=environment, stdout=log, stderr=log
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                if ask("GET", f"{url}/health/ready").json()["models"]:
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
                except httpx.ConnectError:
                    return  # nobody listens any more
                except httpx.HTTPError:
                    self.broken += 1
                    return
                if answer.status_code == 200:
                    self.ids.append(answer.json()["predictions"][0]["id"])
                else:
                    self.refused.append(answer)
                if answer.headers.get("connection") == "close":
                    return  # it asks elsewhere, as it was told


def logged(state: Path, ids: list[str]) -> set[str]:
    with transaction(sessions(connect(f"sqlite:///{state / 'lifecycle.db'}"))) as session:
        return set(find_predictions(session, ids))


def test_nothing_that_was_answered_is_lost_or_logged_twice_by_kills_at_any_moment() -> None:
    """`make bench-kill`, with few kills: predictions and labels, exit code 1 if one is lost."""
    command = [sys.executable, "-m", "benchmarks.kill", "--kills", "4", "--seed", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    said = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())
    assert (said["lost"], said["twice"], said["labels lost"]) == ("0", "0", "0")
    assert said["logged"] == said["answered"]
    assert int(said["answered"]) > 500
    assert int(said["labels kept"]) > 0


def test_a_process_that_is_asked_to_end_finishes_and_leaves_nothing_behind(state: Path) -> None:
    """It says that it is unready while it still listens; no connection breaks."""
    with running(state, HOMEOSTAT_DRAIN_SECONDS="1.5") as (process, url):
        callers = Callers(url)
        callers.wait_for(100)
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        while (ready := ask("GET", f"{url}/health/ready")).status_code == 200:
            assert time.monotonic() - asked < 1.4
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        code = process.wait(20)
        assert time.monotonic() - asked < 10
        callers.stop()
    assert code == 0
    assert callers.refused == []
    assert callers.broken == 0
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
        ok = ask("POST", f"{url}/v1/models/digits/predict", json=ROW, headers=AUTH)
        assert ok.status_code == 200
        assert process.poll() is None


def test_fifty_swaps_under_load_fail_no_request_and_mix_no_answer(state: Path) -> None:
    """Every row of a request is answered by one version, and as that version answers it."""
    digests = {1: only_digest(state), 2: add_version(state, 2)}
    rows = [[float((n * k) % 17) for k in range(64)] for n in range(4)]
    truths = {version: said(state, digest, rows) for version, digest in digests.items()}
    assert truths[1] != pytest.approx(truths[2], abs=1e-2)
    answers: list[dict[str, Any]] = []
    bad: list[object] = []
    stop = threading.Event()

    def ask(url: str) -> None:
        with httpx.Client(headers=AUTH, trust_env=False, timeout=30.0) as client:
            while not stop.is_set():
                try:
                    answer = client.post(f"{url}/v1/models/digits/predict", json={"rows": rows})
                except httpx.HTTPError as error:
                    bad.append(error)
                    continue
                if answer.status_code != 200:
                    bad.append(answer.text)
                    continue
                body = answer.json() | {"header": answer.headers["x-homeostat-version"]}
                answers.append(body)

    with running(state) as (_, url), httpx.Client(headers=AUTH, timeout=30.0) as person:
        callers = [threading.Thread(target=ask, args=(url,)) for _ in range(3)]
        for caller in callers:
            caller.start()
        for swap in range(50):
            wish = {"version": 2 - swap % 2, "reason": f"swap {swap}", "override": True}
            promoted = person.post(f"{url}/v1/models/digits/promote", json=wish)
            assert promoted.status_code == 200, promoted.text
        stop.set()
        for caller in callers:
            caller.join(30)
    assert bad == []
    seen = {(body["version"], body["generation"]) for body in answers}
    assert {version for version, _ in seen} == {1, 2}
    assert len(seen) > 25  # the load was there during the swaps
    for body in answers:
        version = body["version"]
        assert body["header"] == str(version)
        assert body["digest"] == digests[version]
        assert body["release"] == f"digits:{version}@g{body['generation']}"
        assert body["generation"] % 2 == version % 2  # generation 1 is version 1, 2 is 2, 3 is 1
        assert {one["version"] for one in body["predictions"]} == {version}
        given = [one["confidence"] for one in body["predictions"]]
        assert given == pytest.approx(truths[version], abs=1e-3)


def only_digest(state: Path) -> str:
    (folder,) = [path for path in (state / "versions").iterdir() if len(path.name) == 64]
    return folder.name


def add_version(state: Path, version: int) -> str:
    """A second net with the files of the first and other weights."""
    first = state / "versions" / only_digest(state)
    loaded = load_model(first, allowed=["digits"])
    module = loaded.learner.build(torch.Generator().manual_seed(version))
    for weights in module.parameters():
        weights.data.mul_(3)  # far surer than the first one
    made = state / "made"
    extra = {"profile.json": (first / "profile.json").read_bytes()}
    digest = save_model(made, "digits", loaded.learner, module, extra)
    made.rename(state / "versions" / digest)
    ArtifactCache(state / "versions").remember("digits", version, digest)
    return digest


def said(state: Path, digest: str, rows: list[list[float]]) -> list[float]:
    """How sure a version is of each row."""
    loaded = load_model(state / "versions" / digest, allowed=["digits"])
    outputs = loaded.learner.predict(loaded.model, loaded.learner.encode(rows))
    return [float(one) for one in loaded.learner.confidence(outputs)]


def test_the_light_client_predicts_labels_and_batches(state: Path) -> None:
    rows = [[float(n % 17)] * 64 for n in range(20)]
    with running(state) as (_, url), Client(url, "the-token") as client:
        (one,) = client.predict("digits", rows[:1], entity="ann", version=1)
        assert (one.version, 0 < (one.confidence or 0) <= 1) == (1, True)
        (taken,) = client.label({one.id: one.value})
        assert (taken.id, taken.status) == (one.id, "accepted")
        assert client.label({one.id: one.value})[0].status == "duplicate"
        assert client.label({"nobody": 1})[0].status == "unknown"
        together = [each.value for each in client.batch("digits", rows, size=7)]

        async def ask() -> list[Any]:
            async with AsyncClient(url, "the-token") as other:
                return [each.value async for each in other.batch("digits", rows, size=3)]

        assert asyncio.run(ask()) == together
        with pytest.raises(InvalidRow):
            client.predict("digits", [[1.0]])
        with pytest.raises(UnknownModel):
            client.predict("no such", rows)
