"""`homeostat up` on real servers: nothing outlives it, and its state outlives everything."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from homeostat.settings import PREFIX
from homeostat.supervisor import free_ports
from tests.asking import ask


class House:
    """One installation in a folder of its own, used by its commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.mlflow, self.prefect = free_ports(2)
        # Below the ports that the kernel gives to callers: those above it are to be free as well.
        self.gateway = random.randrange(10_000, 32_000)
        self.ports = (self.gateway, self.mlflow, self.prefect)
        others = {name: text for name, text in os.environ.items() if not name.startswith(PREFIX)}
        self.env = others | {
            "HOMEOSTAT_STATE_DIR": str(self.state),
            "HOMEOSTAT_GATEWAY_PORT": str(self.gateway),
            "HOMEOSTAT_MLFLOW_PORT": str(self.mlflow),
            "HOMEOSTAT_PREFECT_PORT": str(self.prefect),
        }

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-P", "-m", "homeostat", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=self.folder, env=self.env, stdout=pipe, stderr=pipe, text=True
        )

    def run(self, *words: str, expect: int = 0) -> str:
        process = self.start(*words)
        said, wrong = process.communicate(timeout=200)
        assert process.returncode == expect, f"{said}\n{wrong}\n{self.logs()}"
        return said + wrong

    def up_state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.state / "up.json").read_text())
        return state

    def family(self) -> list[psutil.Process]:
        """The supervisor and all below it, whatever sessions they are in."""
        head = psutil.Process(self.up_state()["pid"])
        return [head, *head.children(recursive=True)]

    def listening(self) -> list[int]:
        return [port for port in self.ports if listens(port)]

    def logs(self) -> str:
        tails = []
        for log in sorted((self.state / "logs").glob("*.log")):
            tails += [f"== {log.name}", *log.read_text().splitlines()[-15:]]
        return "\n".join(tails)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_for(holds: Callable[[], bool], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"no {what} in {seconds} s"
        time.sleep(0.05)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.run("down")


def mlflow(house: House, method: str, path: str, **given: str) -> dict[str, Any]:
    url = f"http://127.0.0.1:{house.mlflow}/api/2.0/mlflow/{path}"
    if method == "GET":
        answer = ask("GET", url, params=given, timeout=30.0)
    else:
        answer = ask("POST", url, json=given, timeout=30.0)
    said: dict[str, Any] = answer.raise_for_status().json()
    return said


@pytest.mark.timeout(400)
def test_nothing_outlives_a_killed_up_and_its_state_survives(house: House) -> None:
    house.run("up", "--detach")
    parts = json.loads(house.run("status", "--json"))
    assert parts["ready"]
    assert {part["part"] for part in parts["parts"]} == {"mlflow", "prefect", "gateway", "flows"}
    assert "already up" in house.run("up", expect=6)
    assert "FAILED" not in house.run("doctor")
    mlflow(house, "POST", "registered-models/create", name="kept")
    token = (house.state / "token").read_text()

    # A flow run is a process of its own, started by the flows' process: it must not escape.
    training = house.start("train", "digits")
    wait_for(lambda: bool(flow_runs(house)), "process of a flow run", 60.0)
    family = house.family()
    assert len(family) >= 7  # up, guard, four servers, the flow run

    os.kill(house.up_state()["pid"], signal.SIGKILL)
    wait_for(lambda: not any(alive(one) for one in family), "end of all processes", 8.0)
    assert house.listening() == []
    training.kill()
    training.communicate()

    house.run("up", "--detach", "--replicas", "2")
    assert mlflow(house, "GET", "registered-models/get", name="kept")
    assert (house.state / "token").read_text() == token

    first = house.up_state()["pids"]["gateway-1"]
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: not listens(house.gateway + 1), "end of a gateway", 5.0)
    assert listens(house.gateway)  # the other one's as well
    wait_for(lambda: listens(house.gateway + 1), "second life of the gateway", 60.0)
    assert "gateway-2" in house.run("status")
    assert "ended gateway-1 was ended by SIGKILL, started again" in (
        (house.state / "logs" / "up.log").read_text()
    )

    family = house.family()
    house.run("down")
    assert not any(alive(one) for one in family)
    assert house.listening() == []
    assert not (house.state / "up.json").exists()


def test_a_server_that_cannot_start_is_told_with_its_log_and_leaves_nothing(house: House) -> None:
    house.state.mkdir()
    (house.state / "lifecycle.db").write_text("not a database, and long enough to tell\n" * 99)
    said = house.run("up", "--detach", expect=6)
    assert said.splitlines()[-1].startswith("homeostat: database ended with status")
    assert "not a database" in said
    assert str(house.state / "logs" / "database.log") in said
    assert house.listening() == []
    assert not (house.state / "up.json").exists()


def flow_runs(house: House) -> list[psutil.Process]:
    """What the flows' process has started."""
    children: list[psutil.Process] = psutil.Process(house.up_state()["pids"]["flows"]).children()
    return children
