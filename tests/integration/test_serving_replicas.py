"""Several gateways over one database: what one of them sees is evidence for all."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi.testclient import TestClient

from homeostat.policy import Policy, RollbackPolicy
from monitoring.sequential import GuardDetector
from serving.app import create_app
from serving.gateway import Gateway
from tests.asking import ask

if TYPE_CHECKING:
    from tests.integration.conftest import Station

AUTH = {"Authorization": "Bearer the-token"}
ROOT = Path(__file__).resolve().parents[2]
ROWS = [[float((n * k) % 17) for k in range(64)] for n in range(200)]
Replica = tuple[Gateway, TestClient]


@contextlib.contextmanager
def replicas(station: Station, count: int = 2) -> Iterator[list[Replica]]:
    """Gateways of one database, each as its own process would have it."""
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(count):
            gateway = Gateway(station.settings)
            client = TestClient(create_app(station.settings, gateway), headers=AUTH)
            made.append((gateway, stack.enter_context(client)))
        yield made


def predict(client: TestClient, first: int, count: int) -> list[dict[str, int]]:
    body = {"rows": [ROWS[n % len(ROWS)] for n in range(first, first + count)]}
    answer = client.post("/v1/models/digits/predict", json=body)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, int]] = answer.json()["predictions"]
    return found


def label(client: TestClient, given: list[dict[str, int]], truths: list[int]) -> None:
    labels = [{"id": one["id"], "label": truth} for one, truth in zip(given, truths, strict=True)]
    answer = client.post("/v1/labels", json={"labels": labels})
    assert {one["status"] for one in answer.json()["results"]} == {"accepted"}


def label_evidence(gateway: Gateway) -> dict[str, tuple[int, float]]:
    samples = gateway.watches["digits"].samples()
    return {one.detector: (one.rows, one.value) for one in samples if one.detector != "input-drift"}


def test_labels_are_the_same_evidence_on_every_gateway(
    station: Callable[..., Station], database_url: str
) -> None:
    policy = Policy(rollback=RollbackPolicy(budget_labels=10**9))
    here = station(policy, database_url, poll_seconds=3600.0)
    here.serve(1)
    here.serve(2)
    here.put_on_trial(3)
    with replicas(here, 3) as made:
        for turn in range(9):
            _, asked = made[turn % 3]
            _, told = made[turn % 2]  # the third takes none, and labels go to another than answered
            given = predict(asked, turn * 10, 10)
            made[turn % 3][0].writer.drain()
            label(told, given, [(turn + n) % 10 for n in range(10)])
        for gateway, _ in made:
            gateway.feedback.following.catch_up()
        one, other, silent = (label_evidence(gateway) for gateway, _ in made)
        assert one["loss"][0] == one["worse-than-standby"][0] == 90
        assert one == other == silent
        trials = {gateway.watches["digits"].trial for gateway, _ in made}
        assert len(trials) == 1
        with contextlib.closing(_Stopped(Gateway(here.settings))) as late:
            late.gateway.parts.follow("digits")
            late.gateway.keeper.restore("digits")
            assert label_evidence(late.gateway) == one
            assert {late.gateway.watches["digits"].trial} == trials


@pytest.mark.parametrize("count", [1, 2])
def test_the_gateway_that_takes_the_deciding_label_sends_traffic_back_in_that_call(
    station: Callable[..., Station], database_url: str, count: int
) -> None:
    """As many labels decide as with one gateway, though each took but half of them."""
    here = station(Policy(), database_url, poll_seconds=3600.0)
    here.serve(1)
    here.serve(2)
    truths = here.says(1, ROWS)
    rules = RollbackPolicy()
    guard = GuardDetector(rules.budget_labels, rules.tolerance)
    lost = [float(said != truth) for said, truth in zip(here.says(2, ROWS), truths, strict=True)]
    deciding = 0
    while not guard.drift_detected:
        guard.update(lost[deciding * 5 : deciding * 5 + 5])
        deciding += 1
    assert 1 < deciding < 20
    with replicas(here, count) as made:
        for turn in range(deciding):
            gateway, client = made[turn % count]
            assert here.routing().champion == 2
            given = predict(client, turn * 5, 5)
            label(client, given, truths[turn * 5 : turn * 5 + 5])
        assert gateway.fleet.serving("digits").champion.version == 1
        assert (here.routing().champion, here.routing().actor) == (1, "guard")


class _Stopped:
    """A gateway whose threads were never started."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    def close(self) -> None:
        self.gateway.stop()


class Fleet:
    """Gateway processes on one port, each with one of its own."""

    def __init__(self, station: Station, count: int) -> None:
        self.station = station
        self.port = _free_ports(count + 1)
        self.addresses = [f"http://127.0.0.1:{self.port + n}" for n in range(count + 1)]
        self.processes = [self._start(n) for n in range(1, count + 1)]
        self.http = httpx.Client(headers=AUTH, trust_env=False, timeout=30)

    def _start(self, replica: int) -> subprocess.Popen[bytes]:
        settings = self.station.settings
        environment = os.environ | {
            "HOMEOSTAT_STATE_DIR": str(settings.state_dir),
            "HOMEOSTAT_DATABASE_URL": settings.database_url,
            "HOMEOSTAT_TOKEN": "the-token",
            "HOMEOSTAT_GATEWAY_PORT": str(self.port),
            "HOMEOSTAT_MLFLOW_URL": settings.mlflow_url,
            "HOMEOSTAT_PREFECT_URL": settings.prefect_url,
            "HOMEOSTAT_POLL_SECONDS": "0.5",
            "HOMEOSTAT_CONFIG": str(settings.state_dir / "none.toml"),
            "OMP_NUM_THREADS": "1",
        }
        with (settings.state_dir / f"gateway-{replica}.log").open("wb") as log:
            command = [sys.executable, "-m", "serving", "--replica", str(replica)]
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def get(self, replica: int, path: str) -> dict[str, Any]:
        """What one of them says; nothing while it does not answer."""
        with contextlib.suppress(httpx.HTTPError):
            answer: dict[str, Any] = self.http.get(f"{self.addresses[replica]}{path}").json()
            return answer
        return {}

    def generations(self) -> list[int]:
        """What each obeys."""
        assert not any(one.poll() for one in self.processes)
        found = [self.get(n, "/health/ready").get("models", {}) for n in self.replicas]
        return [one.get("digits", {}).get("generation", 0) for one in found]

    @property
    def replicas(self) -> range:
        return range(1, len(self.processes) + 1)

    def ask(self, rows: int) -> int:
        """Rows answered, over a connection of its own to the port that they share."""
        url = f"{self.addresses[0]}/v1/models/digits/predict"
        body = {"rows": ROWS[:rows]}
        answer = ask("POST", url, json=body, headers=AUTH)
        assert answer.status_code == 200, answer.text
        return len(answer.json()["predictions"])

    def counted(self, replica: int) -> int:
        """Rows that are evidence on inputs, as one of them has it."""
        evidence = self.get(replica, "/v1/models/digits").get("evidence", [])
        return sum(one["rows"] for one in evidence if one["detector"] == "input-drift")

    def states(self) -> list[str]:
        """Of all gateways, as the first tells of them."""
        return sorted(one["state"] for one in self.get(1, "/v1/gateways").get("gateways", []))

    def close(self) -> None:
        self.http.close()
        for process in self.processes:
            process.kill()
            process.wait(10)


def _free_ports(count: int) -> int:
    """The first of so many free ports in a row, below those that the kernel gives to callers."""
    while True:
        first = random.randrange(10_000, 32_000)
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for port in range(first, first + count):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def test_three_processes_on_one_port_converge_count_once_and_tell_of_one_that_is_killed(
    station: Callable[..., Station], database_url: str
) -> None:
    here = station(Policy(), database_url)
    here.serve(1)
    with contextlib.closing(Fleet(here, 3)) as fleet:
        until(lambda: fleet.generations() == [1, 1, 1], 120)
        seconds = []
        for version in (2, 1, 2):  # after the first, of versions that are loaded
            here.serve(version)
            began, wanted = time.monotonic(), here.routing().generation
            until(lambda g=wanted: fleet.generations() == [g] * 3)  # type: ignore[misc]  # bound now
            seconds.append(time.monotonic() - began)
        assert sorted(seconds)[1] <= 2.0, seconds
        until(lambda: fleet.states() == ["live"] * 3)

        answered = sum(fleet.ask(5) for _ in range(40))
        until(lambda: [fleet.counted(n) for n in fleet.replicas] == [answered] * 3)
        metrics = [fleet.http.get(f"{one}/metrics").text for one in fleet.addresses[1:]]
        dealt = [
            'homeostat_predictions_total{arm="champion",model="digits"' in one for one in metrics
        ]
        assert dealt.count(True) >= 2  # the kernel dealt the connections out

        fleet.processes[2].kill()
        fleet.processes[2].wait(10)
        before = fleet.counted(1)
        more = sum(fleet.ask(5) for _ in range(10))
        until(lambda: fleet.states() == ["gone", "live", "live"])
        until(lambda: [fleet.counted(n) for n in (1, 2)] == [before + more] * 2)
        fleet.processes[1].terminate()
        until(lambda: fleet.states() == ["ended", "gone", "live"])
