"""The sides of the serving benchmark: how each is started and asked, and how its answer reads.

A peer is a module of `benchmarks.peers`; one with a list of requirements beside it runs in an
environment of its own, the others in Homeostat's.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.environments import requirements_of
from benchmarks.gateway import TOKEN

Json = Any  # what json.loads returns


@dataclass(frozen=True)
class Side:
    """One server.

    Args:
        name: On the command line.
        title: In the table.
        how: What is set for it, in words.
        path: Where predictions are asked.
        body: The JSON to ask with for a row.
        read: The class in a JSON answer; None for a server that predicts nothing.
        ready: A path that answers 2xx once it serves.
        distribution: Whose version is told; none where there is nothing to tell.
    """

    name: str
    title: str
    how: str
    path: str
    body: Callable[[list[float]], object]
    read: Callable[[Json], object] | None
    ready: str
    distribution: str = ""

    @property
    def version(self) -> str:
        """Of what is measured: as pinned, or as installed beside Homeostat."""
        pinned = requirements_of(self.name)
        if pinned.exists():
            found = re.search(rf"^{self.distribution}==(\S+)", pinned.read_text(), re.MULTILINE)
            assert found, f"{pinned} does not pin {self.distribution}"
            return found[1]
        return metadata.version(self.distribution) if self.distribution else ""

    def requests(self, rows: list[list[float]]) -> list[bytes]:
        """Each row as a whole HTTP request."""
        found = []
        for row in rows:
            body = json.dumps(self.body(row), separators=(",", ":")).encode()
            found.append(
                f"POST {self.path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
        return found

    def command(self, python: str, version: Path, port: int, work: Path) -> list[str]:
        """What starts it."""
        if self.name == "homeostat":
            return [sys.executable, "-m", "serving"]
        module = f"benchmarks.peers.{self.name}_side"
        return [python, "-m", module, str(version), str(port), str(work)]


def row_body(row: list[float]) -> object:
    """The plainest JSON for one row."""
    return {"row": row}


def prediction(answer: Json) -> object:
    """The class in the plainest answer."""
    return answer["prediction"]


TABLE = (
    Side(
        "limit",
        "limit of Python",
        "parses HTTP (uvloop, httptools), predicts nothing: no server in Python can be faster",
        "/",
        row_body,
        None,
        "/",
    ),
    Side(
        "homeostat",
        "Homeostat",
        "log, database, monitors, metrics and a standby in shadow all on",
        "/v1/models/digits/predict",
        row_body,
        lambda answer: answer["predictions"][0]["prediction"],
        "/health/ready",
        "homeostat",
    ),
    Side(
        "fastapi",
        "plain FastAPI",
        "one route, one forward per request, uvloop and httptools",
        "/predict",
        row_body,
        prediction,
        "/docs",
        "fastapi",
    ),
    Side(
        "mlflow",
        "MLflow",
        "`mlflow models serve`, a pyfunc with a tensor signature; it does not batch",
        "/invocations",
        lambda row: {"inputs": [row]},
        lambda answer: answer["predictions"][0],
        "/ping",
        "mlflow",
    ),
    Side(
        "bentoml",
        "BentoML",
        "one worker, adaptive batching of up to 64 rows",
        "/predict",
        lambda row: {"rows": [row]},
        lambda answer: answer[0],
        "/readyz",
        "bentoml",
    ),
    Side(
        "litserve",
        "LitServe",
        "one worker, one API server, ZeroMQ, batches of up to 64 rows or 2 ms",
        "/predict",
        row_body,
        prediction,
        "/health",
        "litserve",
    ),
    Side(
        "mlserver",
        "MLServer",
        "no parallel workers, adaptive batching of up to 64 rows or 2 ms",
        "/v2/models/digits/infer",
        lambda row: {
            "inputs": [{"name": "row", "datatype": "FP32", "shape": [1, 64], "data": row}]
        },
        lambda answer: answer["outputs"][0]["data"][0],
        "/v2/models/digits/ready",
        "mlserver",
    ),
    Side(
        "ray",
        "Ray Serve",
        "one replica, asked without the proxy, batches of up to 64 rows or 2 ms",
        "/",
        row_body,
        prediction,
        "/-/healthz",
        "ray",
    ),
)
SIDES = {side.name: side for side in TABLE}
