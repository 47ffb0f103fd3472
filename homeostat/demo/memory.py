"""How much memory the whole demo holds at most: servers, flow runs and the demo itself."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from homeostat.supervisor import read_state

EVERY = 1.0  # seconds between two samples


class PeakMemory:
    """Samples from `with` to its end; `peak` is in bytes.

    What is summed is each process's proportional set size (its own pages, and its part of the
    shared ones), so that a library that five processes share is counted once.

    Args:
        state_dir: Of the servers that `up` started.
    """

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.peak = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(EVERY):
            state = read_state(self._state_dir)
            roots = {os.getpid()} | (set(state.pids.values()) | {state.pid} if state else set())
            self.peak = max(self.peak, sum(_held(process) for process in _trees(roots)))


def _trees(roots: Iterable[int]) -> Iterator[psutil.Process]:
    seen: set[int] = set()
    for pid in roots:
        try:
            root = psutil.Process(pid)
            family = [root, *root.children(recursive=True)]
        except psutil.Error:  # it has just ended
            continue
        for process in family:
            if process.pid not in seen:
                seen.add(process.pid)
                yield process


def _held(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0
