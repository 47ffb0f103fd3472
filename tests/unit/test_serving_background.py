"""A background thread is a batch job to the scheduler; who answers callers is none."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from registry.pyfunc_process import _be_no_batch_job
from serving.background import in_background

pytestmark = pytest.mark.skipif(
    not hasattr(os, "SCHED_BATCH"), reason="this system knows no batch jobs"
)


def policy_within(make: Callable[[Callable[[], None]], threading.Thread]) -> int:
    """The policy of a thread that is made so."""
    found: list[int] = []
    thread = make(lambda: found.append(os.sched_getscheduler(0)))
    thread.start()
    thread.join()
    return found[0]


def in_a_process_that_idles(run: Callable[[], None]) -> threading.Thread:
    def idle() -> None:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        inner = in_background(run, "looks")
        inner.start()
        inner.join()

    return threading.Thread(target=idle)


def in_a_process_that_answers(run: Callable[[], None]) -> threading.Thread:
    def answer() -> None:
        _be_no_batch_job()
        run()

    return in_background(answer, "starts")


def test_a_background_thread_takes_the_core_from_nobody() -> None:
    assert policy_within(lambda run: in_background(run, "looks")) == os.SCHED_BATCH
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_a_policy_that_somebody_chose_for_the_process_stays() -> None:
    assert policy_within(in_a_process_that_idles) == os.SCHED_IDLE


def test_a_process_that_answers_is_no_batch_job_though_a_background_thread_started_it() -> None:
    assert policy_within(in_a_process_that_answers) == os.SCHED_OTHER
