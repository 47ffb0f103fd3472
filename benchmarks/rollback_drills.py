"""Rollbacks of a real gateway, timed by an outside client: by labels, and by failures without any.

A good version answers, a bad one is promoted past its gates, callers ask on, and labels come for
what was answered. A *bad answer* is one of the bad version; time runs from when the deciding label
was sent (the newest one sent before the ledger has the rollback) to the arrival of the last one.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gateway import MODEL, TOKEN, Connection
from models.artifact import load_model, save_model
from models.learner import Learner
from registry.cache import ArtifactCache

GOOD, BAD = 1, 2
PREDICT = f"/v1/models/{MODEL}/predict"
CALLERS = 4
LABELS_AT_ONCE = 5
DRILL_SECONDS = 30.0
BRIGHT = [[16.0] * 64]  # every pixel full
INK = 55.0  # of 64 full pixels; an ordinary row has half of them
CALM_SECONDS = 0.3  # callers ask on for so long after a drill


@dataclass
class Drill:
    """What one drill brought: seconds, labels, answers."""

    seconds: float = 0.0
    labels: int = 0
    bad: int = 0
    answered: int = 0
    failed: int = 0


@dataclass
class Callers:
    """Callers who ask all the time, at an even rate.

    Args:
        port: Of the gateway.
        rate: Requests a second, of all together.
        rows: What is asked, one after the other.
    """

    port: int
    rate: float
    rows: list[list[float]]
    answers: list[tuple[float, int]] = field(default_factory=list)  # arrival, version
    waiting: deque[tuple[str, int, int]] = field(default_factory=deque)  # id, row, version
    failed: int = 0
    over: bool = False

    async def ask(self, caller: int) -> None:
        """One of the callers, until it is over."""
        connection, number = Connection(self.port), caller
        while not self.over:
            began = time.monotonic()
            row = number % len(self.rows)
            number += CALLERS
            try:
                answer = await connection.post(PREDICT, {"row": self.rows[row]})
            except OSError:
                self.failed += 1
                continue
            if answer.status != 200:
                self.failed += 1
            else:
                one = answer.body["predictions"][0]
                self.answers.append((time.time(), answer.body["version"]))
                self.waiting.append((one["id"], row, answer.body["version"]))
            rest = CALLERS / self.rate - (time.monotonic() - began)
            await asyncio.sleep(max(0.0, rest))
        connection.close()


async def drill(port: int, rows: list[list[float]], truths: list[Any], rate: float) -> Drill:
    """Promote the bad version; labels take the traffic back.

    Raises:
        SystemExit: they did not, in `DRILL_SECONDS`.
    """
    callers, asker, labeller = Callers(port, rate, rows), Connection(port), Connection(port)
    tasks = [asyncio.create_task(callers.ask(number)) for number in range(CALLERS)]
    await promote(asker, BAD)
    until, sent = time.monotonic() + DRILL_SECONDS, []
    labels = 0
    while not is_over(callers):
        if time.monotonic() > until:
            raise SystemExit("a drill was not over in time")
        count = min(LABELS_AT_ONCE, len(callers.waiting))
        told = [callers.waiting.popleft() for _ in range(count)]
        if not told:
            await asyncio.sleep(0.005)
            continue
        body = {"labels": [{"id": key, "label": truths[row]} for key, row, _ in told]}
        sent.append(time.time())
        labels += sum(version == BAD for _, _, version in told)
        answer = await labeller.post("/v1/labels", body)
        if answer.status != 200:
            raise SystemExit(f"labels were refused: {answer.body}")
    await asyncio.sleep(CALM_SECONDS)
    callers.over = True
    await asyncio.gather(*tasks)
    decided = (await last_routing(port)).timestamp()
    deciding = max(moment for moment in sent if moment <= decided)
    bad = [moment for moment, version in callers.answers if version == BAD]
    for connection in (asker, labeller):
        connection.close()
    return Drill(
        max(0.0, max(bad) - deciding), labels, len(bad), len(callers.answers), callers.failed
    )


async def hard_failure(port: int, rows: list[list[float]], rate: float) -> Drill:
    """Promote the failing version, then ask what it fails on; no label is sent.

    Time runs from the first such request to the last one that it had to answer.
    """
    callers, asker = Callers(port, rate, rows), Connection(port)
    tasks = [asyncio.create_task(callers.ask(number)) for number in range(CALLERS)]
    await promote(asker, BAD)
    began, callers.rows = time.time(), BRIGHT
    until = time.monotonic() + DRILL_SECONDS
    while (await generation_of(port))[1] != GOOD:
        if time.monotonic() > until:
            raise SystemExit("a failing version was not rolled back in time")
        await asyncio.sleep(0.01)
    await asyncio.sleep(CALM_SECONDS)
    callers.over = True
    await asyncio.gather(*tasks)
    rolled = (await last_routing(port)).timestamp()
    bad = [moment for moment, version in callers.answers if version == BAD and moment >= began]
    asker.close()
    return Drill(
        max(rolled, *bad, began) - began, 0, len(bad), len(callers.answers), callers.failed
    )


def is_over(callers: Callers) -> bool:
    """Whether the bad version answered, and the good one answers again."""
    newest = [version for _, version in callers.answers[-CALLERS * 2 :]]
    seen = any(version == BAD for _, version in callers.answers)
    return seen and len(newest) == CALLERS * 2 and set(newest) == {GOOD}


async def promote(asker: Connection, version: int) -> None:
    """Past its gates, and out of quarantine; the drill before has put it there."""
    wish = {"version": version, "reason": "a drill", "actor": "benchmark", "override": True}
    answer = await asker.post(f"/v1/models/{MODEL}/promote", wish)
    if answer.status != 200:
        raise SystemExit(f"version {version} was refused: {answer.body}")


async def last_routing(port: int) -> datetime:
    """When the newest routing was written."""
    body = await get(port, f"/v1/models/{MODEL}/history?limit=1")
    return datetime.fromisoformat(body["routings"][-1]["at"])


async def generation_of(port: int) -> tuple[int, int]:
    """The generation that serves, and its champion."""
    body = await get(port, "/v1/models")
    routing = body["models"][0]["routing"]
    return routing["generation"], routing["champion"]


async def get(port: int, path: str) -> dict[str, Any]:
    """The JSON object that a route which only shows answers with."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    writer.write(f"{head}Connection: close\r\n\r\n".encode())
    said = await reader.read()
    writer.close()
    found: dict[str, Any] = json.loads(said.partition(b"\r\n\r\n")[2])
    return found


def answers_of(state: Path, rows: list[list[float]]) -> list[Any]:
    """What the good version says of rows: the truth of these drills."""
    learner, module = opened(state, GOOD)
    outputs = learner.predict(module, learner.encode(rows))
    return [one["prediction"] for one in learner.answers(outputs)]


def put_a_failing_version(state: Path, rows: list[list[float]]) -> None:
    """Make the bad version one that answers as the good one does, but for bright rows.

    One of its hidden units sees nothing but how much ink there is, is silent at an ordinary amount,
    and weighs so much that a bright row overflows a float32: what is answered is not finite. The
    good version has to be a perceptron.
    """
    learner, module = opened(state, GOOD)
    first, last = (one for one in module.modules() if isinstance(one, torch.nn.Linear))
    with torch.no_grad():
        first.weight[0] = 1.0
        first.bias[0] = -INK
        last.weight[:, 0] = float(np.finfo(np.float32).max)
    digest = ArtifactCache(state / "versions").digest_of(MODEL, GOOD) or ""
    place = state / "versions" / digest
    outputs = learner.predict(module, learner.encode(rows[:16]))
    golden = {"rows": rows[:16], "outputs": outputs.tolist()}
    extra = {
        "profile.json": (place / "profile.json").read_bytes(),
        "golden.json": json.dumps(golden).encode(),
    }
    made = state / "made"
    digest = save_model(made, "digits", learner, module, extra)
    made.rename(state / "versions" / digest)
    ArtifactCache(state / "versions").remember(MODEL, BAD, digest)


def opened(state: Path, version: int) -> tuple[Learner, torch.nn.Module]:
    """A version of a state folder."""
    digest = ArtifactCache(state / "versions").digest_of(MODEL, version) or ""
    loaded = load_model(state / "versions" / digest, allowed={"digits"})
    return loaded.learner, loaded.model
