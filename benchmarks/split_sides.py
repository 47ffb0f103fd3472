"""Two gateway processes with a state folder each, lines to one PostgreSQL, and callers at both."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import make_url

from benchmarks.cuts import Line
from benchmarks.gateway import MODEL, ROOT, TOKEN, environment_of
from benchmarks.ports import free_port
from benchmarks.servers import wait_until
from homeostat.addresses import has_certificate

ASK_SECONDS = 0.05  # between an answer and the next question of a caller
LOOK_SECONDS = 0.05  # between two looks at what is waited for: as finely are times told
LABELS_AT_ONCE = 5
PATIENT_SECONDS = 30.0  # that a caller waits for an answer
START_SECONDS = 120.0
PREDICT = f"/v1/models/{MODEL}/predict"
DATABASE_UP = 'homeostat_part_up{part="database"}'


class NotInTime(Exception):
    """What a drill waits for did not come; says what."""


@dataclass(frozen=True)
class Answer:
    """One answer as its caller has it: when, after how long; an empty `key` where it was none."""

    at: float
    seconds: float
    key: str
    row: int
    version: int


@dataclass(frozen=True)
class Refusal:
    """Labels that were not taken: the status, `Retry-After`, and how long that took to say."""

    status: int
    retry_after: str
    seconds: float


@dataclass
class Side:
    """One gateway, its line to the database, and its caller.

    Args:
        name: In tables.
        line: Between it and the database.
        rows: What the caller asks.
        truths: The label of each.
    """

    name: str
    line: Line
    rows: Sequence[Sequence[float]]
    truths: Sequence[Any]
    port: int = field(default_factory=free_port)
    answers: list[Answer] = field(default_factory=list)
    labelled: set[str] = field(default_factory=set)
    refused: list[Refusal] = field(default_factory=list)
    owes: bool = False  # labels that were refused and not taken since
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.turn = threading.Lock()  # held by who wants that nobody asks meanwhile
        self.http = _client(self.port)
        self._asking = threading.Thread(target=self._ask, daemon=True)

    def begin(self) -> None:
        """Let the caller ask, until `end`."""
        self._asking.start()

    def end(self) -> None:
        """Let the caller stop, after its last answer."""
        self.over.set()
        if self._asking.is_alive():
            self._asking.join(PATIENT_SECONDS + 5)

    @contextlib.contextmanager
    def labelling(self) -> Iterator[None]:
        """Meanwhile the truth of its newest answers is sent to it; what it refuses, again."""
        over = threading.Event()
        thread = threading.Thread(target=self._label, args=(over,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(PATIENT_SECONDS + 5)

    def told(self, path: str) -> dict[str, Any]:
        """What it says at a path; nothing while it does not."""
        with contextlib.suppress(httpx.HTTPError, ValueError):
            found: dict[str, Any] = self.http.get(path).json()
            return found
        return {}

    def figure(self, name: str) -> float | None:
        """One of its metrics; None while it does not say."""
        with contextlib.suppress(httpx.HTTPError):
            text = self.http.get("/metrics").text
            found = [one.split()[-1] for one in text.splitlines() if one.startswith(f"{name} ")]
            return float(found[0]) if found else None
        return None

    @property
    def acts(self) -> bool:
        """Whether it says that it is the one that acts."""
        return bool(self.told("/health/ready").get("acts"))

    @property
    def is_away(self) -> bool:
        """Whether it says that the database is away, to Prometheus and to who asks its health."""
        troubles = self.told("/health/ready").get("troubles", {})
        return self.figure(DATABASE_UP) == 0 and "unavailable" in troubles.values()

    @property
    def version(self) -> int:
        """What its caller was answered by last."""
        return next((one.version for one in reversed(self.answers) if one.key), 0)

    def _ask(self) -> None:
        client, number = _client(self.port), 0
        while not self.over.wait(ASK_SECONDS):
            row = number % len(self.rows)
            number += 1
            with self.turn:
                self._ask_once(client, row)
        client.close()

    def _ask_once(self, client: httpx.Client, row: int) -> None:
        began = time.monotonic()
        body: dict[str, Any] = {}
        with contextlib.suppress(httpx.HTTPError):
            answer = client.post(PREDICT, json={"row": self.rows[row]})
            body = answer.json() if answer.status_code == 200 else {}
        now = time.monotonic()
        key = body["predictions"][0]["id"] if body else ""
        self.answers.append(Answer(now, now - began, key, row, int(body.get("version", 0))))

    def _label(self, over: threading.Event) -> None:
        client = _client(self.port)
        while not over.wait(ASK_SECONDS):
            fresh = [one for one in self.answers if one.key and one.key not in self.labelled]
            newest = fresh[-LABELS_AT_ONCE:]
            while newest and not self._take(client, newest) and not over.is_set():
                over.wait(float(self.refused[-1].retry_after or 1))
        client.close()

    def _take(self, client: httpx.Client, given: Sequence[Answer]) -> bool:
        labels = [{"id": one.key, "label": self.truths[one.row]} for one in given]
        began, status, after = time.monotonic(), 0, ""
        with contextlib.suppress(httpx.HTTPError):
            answer = client.post("/v1/labels", json={"labels": labels})
            status, after = answer.status_code, answer.headers.get("retry-after", "")
        self.owes = status != 200
        if self.owes:
            self.refused.append(Refusal(status, after, time.monotonic() - began))
        else:
            self.labelled |= {one.key for one in given}
        return not self.owes


def _client(port: int) -> httpx.Client:
    url = f"http://127.0.0.1:{port}"
    return httpx.Client(
        base_url=url,
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=PATIENT_SECONDS,
        trust_env=False,
        verify=has_certificate(url),
    )


@contextlib.contextmanager
def two_sides(
    state: Path,
    database: str,
    mlflow_url: str,
    rows: Sequence[Sequence[float]],
    truths: Sequence[Any],
    config: str,
) -> Iterator[tuple[Side, Side]]:
    """Two gateways that answer, and a caller of each. They are killed at the end of the block.

    Args:
        state: The state folder that each gets a copy of, beside it.
        database: The address of PostgreSQL, by its Unix socket.
        mlflow_url: MLflow's.
        rows: What the callers ask.
        truths: The label of each.
        config: Settings of both, as in `homeostat.toml`.
    """
    socket = Path(str(make_url(database).query["host"])) / ".s.PGSQL.5432"
    with contextlib.ExitStack() as stack:
        found = []
        for name in ("A", "B"):
            side = Side(name, Line(socket), rows, truths)
            stack.callback(side.line.close)
            stack.callback(side.http.close)
            own = state.with_name(f"{state.name}-{name}")
            shutil.copytree(state, own)
            stack.enter_context(_running(own, side, database, mlflow_url, config))
            side.begin()
            stack.callback(side.end)
            found.append(side)
        first, second = found
        until(lambda: first.version and second.version, START_SECONDS, "both answer")
        yield first, second


@contextlib.contextmanager
def _running(
    state: Path, side: Side, database: str, mlflow_url: str, config: str
) -> Iterator[None]:
    address = make_url(database)
    url = f"postgresql://{address.username}@127.0.0.1:{side.line.port}/{address.database}"
    environment = os.environ | environment_of(state, side.port)
    (state / "homeostat.toml").write_text(config)
    environment |= {
        "HOMEOSTAT_CONFIG": str(state / "homeostat.toml"),
        "HOMEOSTAT_DATABASE_URL": url,
        "HOMEOSTAT_MLFLOW_URL": mlflow_url,
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "serving"]
    with (state / "gateway.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait(10)


def until(condition: Callable[[], object], seconds: float, what: str) -> float:
    """Wait for something; how long it took.

    Raises:
        NotInTime: it did not come in so many seconds.
    """
    began = time.monotonic()
    if not wait_until(lambda: bool(condition()), seconds, LOOK_SECONDS):
        raise NotInTime(f"not within {seconds:.0f} s: {what}")
    return time.monotonic() - began
