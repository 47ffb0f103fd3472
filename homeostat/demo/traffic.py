"""The demo's callers: they send images, and the truth about each some time later.

Everything here is seen from outside: what was sent, what came back, when, from which version.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

WORKERS = 8


@dataclass(frozen=True)
class Answer:
    """One answered prediction: times in seconds of `time.monotonic`."""

    id: str
    version: int
    sent: float
    at: float
    correct: bool
    row: list[float]
    label: int


@dataclass(frozen=True)
class Labelled:
    """One label that was taken: which prediction, of which version, and when it was sent."""

    id: str
    version: int
    sent: float


@dataclass
class Record:
    """What the callers saw, in the order of arrival."""

    answers: list[Answer] = field(default_factory=list)
    labelled: list[Labelled] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def accuracy(self, answers: Iterable[Answer] | None = None) -> float:
        """Share of correct answers."""
        chosen = list(self.answers if answers is None else answers)
        return sum(a.correct for a in chosen) / len(chosen) if chosen else float("nan")

    def versions(self, last: int) -> Counter[int]:
        """How often each version answered among the last so many answers."""
        return Counter(answer.version for answer in self.answers[-last:])


@dataclass(frozen=True)
class Callers:
    """Clients of the gateway.

    Args:
        address: Of the gateway.
        token: Its bearer token.
        model: Whose predictions are asked for.
        rate: Requests a second.
        lag: Predictions between an answer and its label.
        group: Labels of one request.
    """

    address: str
    token: str
    model: str
    rate: float = 100.0
    lag: int = 60
    group: int = 10

    def stream(
        self,
        images: Iterator[tuple[list[float], int]],
        record: Record,
        *,
        most: int,
        until: Callable[[], bool] = lambda: False,
        tick: Callable[[int], object] = lambda _: None,
    ) -> int:
        """Send images until `until` says so, `most` at the most; answers how many were sent.

        `until` is asked every 20 answers; `tick` is told how many were sent.
        """
        return asyncio.run(self._stream(images, record, most, until, tick))

    async def _stream(
        self,
        images: Iterator[tuple[list[float], int]],
        record: Record,
        most: int,
        until: Callable[[], bool],
        tick: Callable[[int], object],
    ) -> int:
        waiting: deque[Answer] = deque()
        gate = asyncio.Semaphore(WORKERS)
        limits = httpx.Limits(max_connections=WORKERS + 1, max_keepalive_connections=WORKERS + 1)
        headers = {"Authorization": f"Bearer {self.token}"}
        async with httpx.AsyncClient(
            base_url=self.address, headers=headers, timeout=30.0, limits=limits
        ) as client:
            tasks: set[asyncio.Task[None]] = set()
            labels: asyncio.Task[None] | None = None
            started = time.monotonic()
            sent = 0
            while sent < most:
                await asyncio.sleep(max(0.0, started + sent / self.rate - time.monotonic()))
                await gate.acquire()
                task = asyncio.create_task(self._ask(client, *next(images), record, waiting, gate))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                sent += 1
                tick(1)
                ready = len(waiting) >= self.lag + self.group
                if ready and (labels is None or labels.done()):
                    group = [waiting.popleft() for _ in range(len(waiting) - self.lag)]
                    labels = asyncio.create_task(self._label(client, group, record))
                if sent % 20 == 0 and await asyncio.to_thread(until):
                    break
            await asyncio.gather(*tasks)
            if labels is not None:
                await labels
            await self._label(client, list(waiting), record)
        return sent

    async def _ask(
        self,
        client: httpx.AsyncClient,
        row: list[float],
        label: int,
        record: Record,
        waiting: deque[Answer],
        gate: asyncio.Semaphore,
    ) -> None:
        sent = time.monotonic()
        try:
            reply = await client.post(f"/v1/models/{self.model}/predict", json={"row": row})
            reply.raise_for_status()
            body: dict[str, Any] = reply.json()
            first = body["predictions"][0]
            right = int(first["prediction"]) == label
            answer = Answer(
                first["id"], int(body["version"]), sent, time.monotonic(), right, row, label
            )
            record.answers.append(answer)
            waiting.append(answer)
        except (httpx.HTTPError, KeyError, ValueError) as error:
            record.failures.append(f"predict: {error!r}")
        finally:
            gate.release()

    async def _label(self, client: httpx.AsyncClient, group: list[Answer], record: Record) -> None:
        for start in range(0, len(group), self.group):
            part = group[start : start + self.group]
            sent = time.monotonic()
            try:
                reply = await client.post(
                    "/v1/labels",
                    json={"labels": [{"id": a.id, "label": a.label} for a in part]},
                )
                reply.raise_for_status()
            except httpx.HTTPError as error:
                record.failures.append(f"label: {error!r}")
                continue
            record.labelled.extend(Labelled(a.id, a.version, sent) for a in part)
