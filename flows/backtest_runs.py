"""Every rule over every stream, in one process or several; each by itself, so nothing is shared."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from flows.backtest import Course, Replayed, Rule, replay
from flows.backtest_loop import Homeostat
from flows.backtest_rules import Adwin, Calendar, Never, river_is_here
from flows.site import use_one_thread
from homeostat.policy import Policy
from models.data import Dataset


@dataclass(frozen=True)
class Stream:
    """Labelled rows with a name, and how they are replayed."""

    name: str
    dataset: Dataset
    course: Course


@dataclass(frozen=True)
class Asked:
    """One rule over one stream.

    Args:
        stream: To be replayed.
        policy: Of the model.
        rule: A name of `RULES`.
        every: Rows between two retrains by the calendar.
    """

    stream: Stream
    policy: Policy
    rule: str
    every: int = 0


RULES: dict[str, Callable[[Asked, Path], Rule]] = {
    "homeostat": lambda one, folder: Homeostat(
        one.stream.dataset, one.policy, one.stream.course, folder
    ),
    "never": lambda one, _: Never(one.stream.dataset, one.policy, one.stream.course),
    "calendar": lambda one, _: Calendar(
        one.stream.dataset, one.policy, one.stream.course, one.every
    ),
    "adwin": lambda one, _: Adwin(one.stream.dataset, one.policy, one.stream.course),
}


def sides(streams: Sequence[Stream], policy: Policy, calendars: Sequence[int]) -> list[Asked]:
    """All rules over each stream, stream by stream; ADWIN where river is installed."""
    return [
        one
        for stream in streams
        for one in (
            Asked(stream, policy, "homeostat"),
            Asked(stream, policy, "never"),
            *(Asked(stream, policy, "calendar", every) for every in calendars),
            *([Asked(stream, policy, "adwin")] if river_is_here() else []),
        )
    ]


def run(asked: Sequence[Asked], processes: int = 1) -> Iterator[Replayed]:
    """What came of each, in their order.

    Args:
        asked: Rules over streams.
        processes: How many at once.

    Raises:
        HomeostatError: as `flows.backtest.replay`.
    """
    if processes <= 1:
        yield from map(run_one, asked)
        return
    # Not forked: torch's threads do not survive that.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        yield from pool.map(run_one, asked)


def run_one(asked: Asked) -> Replayed:
    """One rule over one stream, on one thread."""
    use_one_thread()
    with tempfile.TemporaryDirectory() as folder:
        rule = RULES[asked.rule](asked, Path(folder))
        return replay(asked.stream.dataset, rule, asked.stream.course)
