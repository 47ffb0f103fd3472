"""Natural micro-batching: a batch is whatever queued while the last one ran.

There is no waiting for more: alone, a request is a batch of one and leaves at once; under load
the batches grow by themselves. Everything runs on the event loop, so an answer costs no handover
between threads, and a swap of the routing falls between two batches.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from homeostat.clock import Clock
from homeostat.errors import HomeostatError, Unavailable
from serving.answering import Answer, Answered, Request, answer
from serving.entries import to_entry
from serving.fleet import Fleet, Split
from serving.metrics import Metrics
from serving.problems import internal
from serving.spool import Spool

MAX_BATCH_ROWS = 1024

logger = logging.getLogger(__name__)

Observer = Callable[[Split, Answered], None]


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished answer: its JSON, and the version and generation for the headers."""

    body: bytes
    version: int
    generation: int


@dataclass(slots=True)
class _Waiting:
    request: Request
    body: bytes
    future: asyncio.Future[Reply]
    since: float = field(default_factory=time.perf_counter)

    def fail(self, error: HomeostatError) -> None:
        if not self.future.done():  # the caller may have gone away
            self.future.set_exception(error)


class Batcher:
    """Queues requests by model and answers them batch by batch.

    Args:
        fleet: Whose split a batch is answered from.
        spool: Where a batch is logged before its answers leave.
        metrics: What is counted.
        observe: Is given each finished batch; must be quick.
        clock: Says when a prediction was made.
    """

    def __init__(
        self, fleet: Fleet, spool: Spool, metrics: Metrics, observe: Observer, clock: Clock
    ) -> None:
        self._fleet = fleet
        self._spool = spool
        self._metrics = metrics
        self._observe = observe
        self._clock = clock
        self._queues: dict[str, list[_Waiting]] = {}
        self._encoder = msgspec.json.Encoder()

    async def submit(self, model: str, request: Request, body: bytes) -> Reply:
        """Answer one request, together with whatever else is queued.

        Raises:
            HomeostatError: what is wrong with this request, or with the version.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(request, body, loop.create_future())
        queue = self._queues.setdefault(model, [])
        queue.append(waiting)
        if len(queue) == 1:
            loop.call_soon(self._run, model)
        return await waiting.future

    def _run(self, model: str) -> None:
        queue = self._queues[model]
        batch = _take(queue)
        if queue:
            asyncio.get_running_loop().call_soon(self._run, model)
        try:
            self._answer(model, batch)
        except HomeostatError as error:
            for waiting in batch:
                waiting.fail(error)
        except Exception as error:
            logger.exception("a batch of %s failed", model)
            for waiting in batch:
                waiting.fail(internal(error))

    def _answer(self, model: str, batch: list[_Waiting]) -> None:
        split = self._fleet.serving(model)  # the one look at the routing
        done = answer(split, [waiting.request for waiting in batch])
        at = round(self._clock().timestamp() * 1e6)
        ready: list[tuple[_Waiting, Reply, Answer]] = []
        payloads: list[bytes] = []
        for waiting, result in zip(batch, done.results, strict=True):
            if isinstance(result, HomeostatError):
                waiting.fail(result)
                continue
            version = result.loaded.version
            said = self._encoder.encode(result.predictions)
            payloads.append(to_entry(result, split.generation, at, waiting.body, said))
            reply = Reply(split.heads[version] + said + b"}", version, split.generation)
            ready.append((waiting, reply, result))
        if payloads:
            try:
                self._spool.append(payloads)
            except Unavailable as error:  # an answer that is not logged does not leave
                for waiting, _, _ in ready:
                    waiting.fail(error)
                return
        for waiting, reply, _ in ready:
            if not waiting.future.done():
                waiting.future.set_result(reply)
        self._count(split, batch, [result for _, _, result in ready])
        self._observe(split, done)

    def _count(self, split: Split, batch: list[_Waiting], answers: list[Answer]) -> None:
        metrics, model = self._metrics, split.model
        rows: dict[tuple[int, str], int] = {}
        for one in answers:
            key = (one.loaded.version, one.arm)
            rows[key] = rows.get(key, 0) + len(one.ids)
        for (version, arm), count in rows.items():
            metrics.predictions.labels(model, version, arm).inc(count)
        metrics.batch_rows.labels(model).observe(sum(len(one.request.rows) for one in batch))
        now = time.perf_counter()
        seconds = metrics.seconds.labels(model)
        for waiting in batch:
            seconds.observe(now - waiting.since)


def _take(queue: list[_Waiting]) -> list[_Waiting]:
    """The first requests of the queue, up to a bound on their rows, at least one."""
    rows = 0
    for count, waiting in enumerate(queue):
        rows += len(waiting.request.rows)
        if count and rows > MAX_BATCH_ROWS:
            batch = queue[:count]
            del queue[:count]
            return batch
    batch = queue[:]
    queue.clear()
    return batch
