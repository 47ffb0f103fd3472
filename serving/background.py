"""Threads whose work can wait: none takes the core from the answering one when it wakes."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable


def in_background(run: Callable[[], None], name: str) -> threading.Thread:
    """A thread, not started yet, that runs beside answers and does not end with the process."""
    return threading.Thread(target=_run, args=(run,), name=name, daemon=True)


def _run(run: Callable[[], None]) -> None:
    _let_others_first()
    run()


def _let_others_first() -> None:
    """Have the scheduler take this thread for a batch job, where it knows of any (Linux).

    It keeps its share of the core: a lesser one would leave a lock that it holds, Python's among
    them, to whatever else the machine does. It only does not interrupt who is at work when it
    wakes. A policy that somebody chose for the process stays.
    """
    if not hasattr(os, "SCHED_BATCH") or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return
    with contextlib.suppress(OSError):  # a sandbox may forbid it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
