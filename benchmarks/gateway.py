"""A real gateway process over a state folder of its own, and connections that ask it.

The version that it serves is a net that nobody trained: what it says does not matter where this
is used, only what becomes of the answers.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from homeostat.clock import utc_now
from models.artifact import save_model
from models.digits import Digits
from monitoring.profile import Profile
from registry import connect, promote, sessions, transaction, upgrade
from registry.cache import ArtifactCache

ROOT = Path(__file__).resolve().parent.parent
# Of this run: processes that it starts find it where the gateway does.
TOKEN = os.environ.setdefault("HOMEOSTAT_TOKEN", secrets.token_urlsafe(16))
MODEL = "digits"
START_SECONDS = 90.0
NOWHERE = "http://127.0.0.1:9"
ROW = [float(n % 17) for n in range(64)]


def prepare(
    state: Path,
    database: str = "",
    versions: int = 1,
    at: datetime | None = None,
    **config: int,
) -> str:
    """Make a state folder whose version 1 serves; the address of its database.

    Args:
        state: An empty folder.
        database: SQLAlchemy URL of an empty database; none: SQLite in the folder.
        versions: How many lie in the folder, each with other weights.
        at: Since when it serves; None: since now.
        config: Of the learner: `channels` and `hidden` make the net larger.
    """
    url = database or f"sqlite:///{state / 'lifecycle.db'}"
    upgrade(url)
    (state / "versions").mkdir()
    digests = [_make(state, version, config) for version in range(1, versions + 1)]
    with transaction(sessions(connect(url))) as session:
        promote(
            session,
            MODEL,
            1,
            actor="benchmark",
            reason="to be measured",
            evidence={},
            now=at or utc_now(),
            digest=digests[0],
        )
    return url


def _make(state: Path, version: int, config: Mapping[str, int]) -> str:
    """Put a version into the state folder; its digest."""
    rows = [[float((n * k) % 17) for k in range(64)] for n in range(100)]
    learner = Digits.from_data(rows, [n % 10 for n in range(100)], config)
    module = learner.build(torch.Generator().manual_seed(version))
    x = learner.encode(rows)
    outputs = learner.predict(module, x)
    profile = Profile.from_reference(
        learner.features,
        learner.task,
        learner.observe(x),
        learner.predicted(outputs),
        learner.confidence(outputs),
        [0.9] * len(rows),
    )
    made = state / "made"
    golden = {"rows": rows[:16], "outputs": outputs[:16].tolist()}
    extra = {
        "profile.json": profile.to_json().encode(),
        "golden.json": json.dumps(golden).encode(),
    }
    digest = save_model(made, "digits", learner, module, extra)
    made.rename(state / "versions" / digest)
    ArtifactCache(state / "versions").remember(MODEL, version, digest)
    return digest


def environment_of(state: Path, port: int) -> dict[str, str]:
    """The settings of a gateway over a folder that `prepare` made, with no MLflow or Prefect."""
    return {
        "HOMEOSTAT_STATE_DIR": str(state),
        "HOMEOSTAT_TOKEN": TOKEN,
        "HOMEOSTAT_GATEWAY_PORT": str(port),
        "HOMEOSTAT_MLFLOW_URL": NOWHERE,
        "HOMEOSTAT_PREFECT_URL": f"{NOWHERE}/api",
        "HOMEOSTAT_CONFIG": str(state / "none.toml"),
    }


@contextmanager
def running(state: Path, port: int, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """A gateway process, killed at the end of the block if it still runs.

    Args:
        state: What `prepare` made.
        port: Of the loopback.
        settings: Environment besides, such as HOMEOSTAT_MAX_ROWS.
    """
    with (state / "gateway.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving"],
            cwd=ROOT,
            env=os.environ | environment_of(state, port) | settings,
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait(10)


@dataclass(frozen=True)
class Answer:
    """What came back: the status, the headers by their names in small letters, and the JSON."""

    status: int
    headers: Mapping[str, str]
    body: Any


class Connection:
    """One keep-alive connection that asks one thing at a time.

    Args:
        port: Of the loopback.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            OSError: nobody listens.
        """
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def post(self, path: str, body: object) -> Answer:
        """Ask, and wait for the whole answer.

        Raises:
            OSError: the connection broke; whether it was answered cannot be known.
        """
        if self._reader is None or self._writer is None:
            await self.open()
        assert self._reader is not None
        assert self._writer is not None
        try:
            self._writer.write(request_bytes(path, body))
            head, _, rest = (await self._reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
            lines = rest.decode("latin-1").strip().splitlines()
            headers = dict(line.lower().split(": ", 1) for line in lines)
            text = await self._reader.readexactly(int(headers.get("content-length", "0")))
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            raise ConnectionError(str(error)) from error
        if headers.get("connection") == "close":
            self.close()
        return Answer(int(head.split()[1]), headers, json.loads(text) if text else None)

    def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


def request_bytes(path: str, body: object) -> bytes:
    """A POST as it goes over the wire."""
    text = json.dumps(body, separators=(",", ":")).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    return f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text


async def until_it_answers(port: int, process: subprocess.Popen[bytes], state: Path) -> None:
    """Wait until a prediction is answered.

    Raises:
        SystemExit: the process ended, or did not answer in time.
    """
    deadline = time.monotonic() + START_SECONDS
    asker = Connection(port)
    while True:
        try:
            if (await asker.post(f"/v1/models/{MODEL}/predict", {"row": ROW})).status == 200:
                asker.close()
                return
        except OSError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"no gateway:\n{(state / 'gateway.log').read_text()[-4000:]}")
        await asyncio.sleep(0.05)
