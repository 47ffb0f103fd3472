"""A version in another process keeps its own callers waiting, and nobody else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from homeostat.clock import utc_now
from models.pyfunc import Apart, Pyfunc
from models.pyfunc_columns import Values
from monitoring.profile import Profile
from serving.answering import Request
from serving.batching import Batcher, Reply
from serving.fleet import Fleet, Split
from serving.metrics import Metrics
from serving.runtime import Loaded
from serving.spool import Spool

ROWS = [{"a": float(n)} for n in range(20)]


class Slow(Apart):
    """Answers when it is let; as many threads as asked wait."""

    def __init__(self, *, quick: bool) -> None:
        super().__init__({})
        self.let, self.asked = threading.Event(), threading.Event()
        self.batches: list[int] = []
        if quick:
            self.let.set()

    def ask(self, columns: Mapping[str, Values], tensor: str) -> Values:
        del tensor
        self.batches.append(len(columns["a"]))
        self.asked.set()
        assert self.let.wait(20)
        return np.asarray(columns["a"])


def loaded(model: str, version: int, module: Slow) -> Loaded:
    learner = Pyfunc.from_data(ROWS, [n + 0.5 for n in range(20)], {"kinds": {"a": "float64"}})
    x = learner.encode(ROWS)
    outputs = x.numpy().astype(np.float32)
    profile = Profile.from_reference(
        learner.features, "regression", learner.observe(x), outputs[:, 0], outputs[:, 0], [0.0] * 20
    )
    return Loaded(model, version, "d" * 64, learner, module, profile, "same")


def batcher(fleet: Fleet, folder: Path, max_queue_ms: float = 0) -> Batcher:
    return Batcher(
        *(fleet, Spool(folder), Metrics(), lambda _split, _done: None, utc_now),
        max_queue_ms=max_queue_ms,
    )


async def ask(made: Batcher, model: str, value: float) -> Reply:
    return await made.submit(model, Request([{"a": value}], None))


def test_a_waiting_model_holds_up_no_other_and_batches_what_queues(tmp_path: Path) -> None:
    slow, quick = Slow(quick=False), Slow(quick=True)
    fleet = Fleet(("slow", "quick"))
    fleet.swap(Split("slow", 1, loaded("slow", 1, slow)))
    fleet.swap(Split("quick", 1, loaded("quick", 1, quick)))

    async def run() -> None:
        made = batcher(fleet, tmp_path)
        first = asyncio.create_task(ask(made, "slow", 1.0))
        await asyncio.to_thread(slow.asked.wait, 20)
        others = [asyncio.create_task(ask(made, "slow", value)) for value in (2.0, 3.0, 4.0)]
        reply = await asyncio.wait_for(ask(made, "quick", 5.0), 20)
        assert msgspec.json.decode(reply.body)["predictions"][0]["prediction"] == 5.0
        assert not first.done()
        slow.let.set()
        found = [await asyncio.wait_for(task, 20) for task in (first, *others)]
        said = [msgspec.json.decode(one.body)["predictions"][0]["prediction"] for one in found]
        assert said == [1.0, 2.0, 3.0, 4.0]
        assert slow.batches == [1, 3]

    asyncio.run(run())


def test_what_is_withdrawn_while_it_works_answers_nobody(tmp_path: Path) -> None:
    slow, quick = Slow(quick=False), Slow(quick=True)
    fleet = Fleet(("slow",))
    fleet.swap(Split("slow", 1, loaded("slow", 1, slow)))

    async def run() -> None:
        made = batcher(fleet, tmp_path)
        asked = asyncio.create_task(ask(made, "slow", 1.0))
        await asyncio.to_thread(slow.asked.wait, 20)
        fleet.swap(Split("slow", 2, loaded("slow", 7, quick)))
        slow.let.set()
        reply = await asyncio.wait_for(asked, 20)
        assert (reply.version, reply.generation) == (7, 2)

    asyncio.run(run())


def test_a_full_line_refuses_what_comes_and_answers_what_it_took(tmp_path: Path) -> None:
    slow, quick = Slow(quick=False), Slow(quick=True)
    fleet = Fleet(("slow", "quick"))
    fleet.swap(Split("slow", 1, loaded("slow", 1, slow)))
    fleet.swap(Split("quick", 1, loaded("quick", 1, quick)))

    async def run() -> None:
        made = batcher(fleet, tmp_path, max_queue_ms=1000)
        made._lines["slow"].limit = 3
        tasks = [asyncio.create_task(ask(made, "slow", 0.0))]
        await asyncio.to_thread(slow.asked.wait, 20)  # a batch of one is away
        while (full := made.refuses("slow")) is None:
            tasks.append(asyncio.create_task(ask(made, "slow", float(len(tasks)))))
            await asyncio.sleep(0)  # it queues
        assert len(tasks) == 4
        assert (full.code, full.fields["limit"], full.fields["model"]) == ("overloaded", 3, "slow")
        assert made.refuses("quick") is None
        slow.let.set()
        found = [await asyncio.wait_for(task, 20) for task in tasks]
        said = [msgspec.json.decode(one.body)["predictions"][0]["prediction"] for one in found]
        assert said == [0.0, 1.0, 2.0, 3.0]
        assert made.refuses("slow") is None

    asyncio.run(run())
