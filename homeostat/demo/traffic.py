"""The demo's callers: they send images, and the truth about each some time later.

Everything here is seen from outside: what was sent, what came back, when, from which version.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from homeostat.client import AsyncClient
from homeostat.errors import HomeostatError

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
        # One attempt: what fails here is to be seen.
        async with AsyncClient(
            self.address, self.token, attempts=1, connections=WORKERS + 1
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
        client: AsyncClient,
        row: list[float],
        label: int,
        record: Record,
        waiting: deque[Answer],
        gate: asyncio.Semaphore,
    ) -> None:
        sent = time.monotonic()
        try:
            (first,) = await client.predict(self.model, [row])
            right = int(first.value) == label
            answer = Answer(first.id, first.version, sent, time.monotonic(), right, row, label)
            record.answers.append(answer)
            waiting.append(answer)
        except (HomeostatError, KeyError, ValueError) as error:
            record.failures.append(f"predict: {error!r}")
        finally:
            gate.release()

    async def _label(self, client: AsyncClient, group: list[Answer], record: Record) -> None:
        for start in range(0, len(group), self.group):
            part = group[start : start + self.group]
            sent = time.monotonic()
            try:
                taken = await client.label({a.id: a.label for a in part})
            except HomeostatError as error:
                record.failures.append(f"label: {error!r}")
                continue
            refused = [one for one in taken if one.status not in ("accepted", "duplicate")]
            record.failures.extend(f"label: {one!r}" for one in refused)
            record.labelled.extend(Labelled(a.id, a.version, sent) for a in part)
