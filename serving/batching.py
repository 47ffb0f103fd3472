"""Natural micro-batching: a batch is whatever queued while the last one ran.

There is no waiting for more: alone, a request is a batch of one and leaves at once; under load
the batches grow by themselves. Everything runs on the event loop, so an answer costs no handover
between threads, and a swap of the routing falls between two batches. Only where a version runs in
a process of its own another thread waits for it; a swap meanwhile has the batch asked again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import get_args

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from homeostat.clock import Clock
from homeostat.errors import HomeostatError, Unavailable
from serving.answering import Answer, Answered, Request, answer
from serving.answers import PINNED, Reason, Told
from serving.counted import Counted
from serving.entries import to_payload, to_payloads
from serving.fleet import Fleet, Split
from serving.line import Line, Overloaded
from serving.metrics import Metrics
from serving.problems import internal
from serving.runtime import Loaded
from serving.spool import Spool

MAX_BATCH_ROWS = 1024

# What follows the head of a release: why it answers, and the predictions.
_WHY: dict[Reason, bytes] = {
    reason: f'"{reason}","predictions":'.encode() for reason in get_args(Reason)
}

logger = logging.getLogger(__name__)

Observer = Callable[[Split, Answered], None]


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished answer: its JSON, and the version and generation for the headers."""

    body: bytes
    version: int
    generation: int


Done = Callable[[Reply | HomeostatError], None]


@dataclass(slots=True)
class _Waiting:
    request: Request
    done: Done
    since: float = field(default_factory=time.perf_counter)


class Batcher:
    """Queues requests by model and answers them batch by batch.

    Args:
        fleet: Whose split a batch is answered from.
        spool: Where a batch is logged before its answers leave.
        metrics: What is counted.
        observe: Is given each finished batch; must be quick.
        clock: Says when a prediction was made.
        counted: What answered is noted there as the answers leave.
        max_queue_ms: How long a request may be here until it is answered; 0: any time.
        unlogged: Hears of the model and the rows of answers that leave without being logged;
            None: none does.
    """

    def __init__(
        self,
        fleet: Fleet,
        spool: Spool,
        metrics: Metrics,
        observe: Observer,
        clock: Clock,
        counted: Counted | None = None,
        unlogged: Callable[[str, int], None] | None = None,
        max_queue_ms: float = 0,
    ) -> None:
        self._fleet = fleet
        self._counted = counted or Counted()
        self._spool = spool
        self._unlogged = unlogged
        self._metrics = metrics
        self._observe = observe
        self._clock = clock
        self._queues: dict[str, list[_Waiting]] = {}
        self._lines = {m: Line(max_queue_ms / 1000) for m in fleet.models if max_queue_ms}
        self._away: set[str] = set()  # models whose batch is in another thread
        self._threads = ThreadPoolExecutor(len(fleet.models) or 1, "apart")  # none until asked
        self._encoder = msgspec.json.Encoder()

    def refuses(self, model: str) -> Overloaded | None:
        """Why one more request for a model would wait too long; None: it would not."""
        line, queue = self._lines.get(model), self._queues.get(model)
        if line is None or queue is None or len(queue) < line.limit:
            return None
        return line.refusal(model)

    async def submit(self, model: str, request: Request) -> Reply:
        """Answer one request, together with whatever else is queued.

        Raises:
            HomeostatError: what is wrong with this request, or with the version.
        """
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def done(result: Reply | HomeostatError) -> None:
            if future.done():  # the caller may have gone away
                return
            if isinstance(result, HomeostatError):
                future.set_exception(result)
            else:
                future.set_result(result)

        self.queue(model, request, done)
        return await future

    def queue(self, model: str, request: Request, done: Done) -> None:
        """As `submit`, for a caller that is no task: `done` is given the reply or the error."""
        queue = self._queues.get(model)
        if queue is None:
            queue = self._queues[model] = []
        queue.append(_Waiting(request, done))
        if len(queue) == 1:
            asyncio.get_running_loop().call_soon(self._run, model)

    def _run(self, model: str) -> None:
        queue = self._queues[model]
        if model in self._away or not queue:  # what queues meanwhile is its next batch
            return
        batch = _take(queue)
        with _told(model, batch):
            split = self._fleet.serving(model)  # the one look at the routing
            requests = [waiting.request for waiting in batch]
            if split.apart:
                self._ask_apart(split, batch, requests)
                return
            self._finish(split, batch, answer(split, requests))
        if queue:
            asyncio.get_running_loop().call_soon(self._run, model)

    def _ask_apart(self, split: Split, batch: list[_Waiting], requests: list[Request]) -> None:
        """Let another thread wait for a process: the loop and all other models go on."""
        loop, model = asyncio.get_running_loop(), split.model
        self._away.add(model)

        def come_back(future: asyncio.Future[Answered]) -> None:
            self._away.discard(model)
            with _told(model, batch):
                done = future.result()
                if self._fleet.get(model) is split:
                    self._finish(split, batch, done)
                else:  # the routing moved meanwhile: what is withdrawn answers nobody
                    self._queues[model][:0] = batch
            self._run(model)

        loop.run_in_executor(self._threads, answer, split, requests).add_done_callback(come_back)

    def _finish(self, split: Split, batch: list[_Waiting], done: Answered) -> None:
        """Log what was answered, and let it go."""
        at = round(self._clock().timestamp() * 1e6)
        if done.told is not None:
            payloads = [to_payload(split, at, done.told, [one.request for one in batch])]
            ready = list(zip(batch, _replies(split, batch, done.told), strict=True))
            loaded = done.told.loaded
            rows = {(loaded.version, loaded.digest, "champion"): len(done.told.ids)}
        else:
            answered = [
                (index, waiting, result)
                for index, (waiting, result) in enumerate(zip(batch, done.results, strict=True))
                if isinstance(result, Answer)
            ]
            for waiting, error in zip(batch, done.results, strict=True):
                if isinstance(error, HomeostatError):
                    waiting.done(error)
            places = {index: place for place, (index, _, _) in enumerate(answered)}
            pairs = [(waiting.request, one) for _, waiting, one in answered]
            payloads = to_payloads(split, at, pairs, _asked(done, places))
            ready = [(waiting, self._reply(split, one)) for _, waiting, one in answered]
            rows = {}
            for _, _, one in answered:
                key = (one.loaded.version, one.loaded.digest, one.arm)
                rows[key] = rows.get(key, 0) + len(one.ids)
        if ready:
            try:
                self._spool.append(payloads)
            except Unavailable as error:
                if self._unlogged is None:  # an answer that is not logged does not leave
                    for waiting, _ in ready:
                        waiting.done(error)
                    return
                self._unlogged(split.model, sum(rows.values()))
        for waiting, reply in ready:
            waiting.done(reply)
        self._count(split, batch, rows, len(ready))
        self._observe(split, done)

    def _reply(self, split: Split, one: Answer) -> Reply:
        version = one.loaded.version
        head = split.heads[version] + _WHY[one.reason]
        body = head + self._encoder.encode(one.predictions) + b"}"
        return Reply(body, version, split.generation)

    def _count(
        self,
        split: Split,
        batch: list[_Waiting],
        rows: dict[tuple[int, str, str], int],
        answered: int,
    ) -> None:
        metrics, model = self._metrics, split.model
        for (version, digest, arm), count in rows.items():
            metrics.predictions.labels(model, version, arm).inc(count)
            if arm != PINNED:  # which answers by no routing
                self._counted.add(model, (split.generation, version, digest), count)
        metrics.requests.labels(model, "ok").inc(answered)
        metrics.batch_rows.add(model, [sum(len(one.request.rows) for one in batch)])
        now = time.perf_counter()
        metrics.seconds.add(model, [now - waiting.since for waiting in batch])
        if (line := self._lines.get(model)) is not None:
            line.measured(len(batch), batch[0].since, now)
            metrics.queue_limit.labels(model).set(line.limit)


def _replies(split: Split, batch: list[_Waiting], told: Told) -> Iterator[Reply]:
    """The answers to a batch of plain numbers, as bytes; as `_reply` would write them."""
    version, generation = told.loaded.version, split.generation
    head = (split.heads[version] + _WHY["champion"]).decode() + "["
    end = f'"version":{version}}}'
    # Each line is an object: its braces make room for id and version.
    said = [
        f'{{"id":"{name}",{line[1:-1]}{"," if len(line) > 2 else ""}{end}'
        for name, line in zip(told.ids, told.lines.decode().split("\n"), strict=True)
    ]
    start = 0
    for waiting in batch:
        stop = start + len(waiting.request.rows)
        rows = said[start] if stop == start + 1 else ",".join(said[start:stop])
        yield Reply(f"{head}{rows}]}}".encode(), version, generation)
        start = stop


def _asked(
    done: Answered, places: Mapping[int, int]
) -> list[tuple[Loaded, dict[int, NDArray[np.float32] | None]]]:
    """Who answers unseen, and what it is to be asked, by the place among the answered requests."""
    found: list[tuple[Loaded, dict[int, NDArray[np.float32] | None]]] = []
    for asked in done.asked:
        x, start = asked.x, 0
        if x is None or x.ndim != 2 or x.dtype != torch.float32:
            found.append((asked.loaded, {places[index]: None for index in asked.requests}))
            continue
        rows: dict[int, NDArray[np.float32] | None] = {}
        for index in asked.requests:
            one = done.results[index]
            assert isinstance(one, Answer)
            stop = start + len(one.ids)
            rows[places[index]] = x[start:stop].numpy()
            start = stop
        found.append((asked.loaded, rows))
    return found


@contextlib.contextmanager
def _told(model: str, batch: list[_Waiting]) -> Iterator[None]:
    """Whatever goes wrong with a batch, each of its callers gets an answer."""
    try:
        yield
    except HomeostatError as error:
        for waiting in batch:
            waiting.done(error)
    except Exception as error:
        logger.exception("a batch of %s failed", model)
        for waiting in batch:
            waiting.done(internal(error))


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
