"""A full line refuses early, by what was measured; nothing here waits for a clock."""

from __future__ import annotations

import itertools

import pytest

from serving.line import FEWEST, FIRST, LONGEST, Line
from serving.problems import headers_of, status_of


class Loop:
    """A clock, and batches that take their time on it."""

    def __init__(self, line: Line) -> None:
        self.line, self.now = line, 100.0

    def batch(self, requests: int, seconds: float, rest: float = 10.0) -> None:
        """One batch, after a rest in which nobody asked."""
        self.now += rest
        began = self.now
        self.now += seconds
        self.line.measured(requests, began, self.now)


def settle(line: Line, each: float, fixed: float = 0.0, rounds: int = 200) -> list[float]:
    """Batches of as many as the line takes, one after the other, at so many seconds each.

    Returns:
        How long the first request of each batch was there: unseen during the batch before, too.
    """
    loop, took = Loop(line), [0.0]
    for _ in range(rounds):
        took.append(fixed + line.limit * each)
        loop.batch(line.limit, took[-1], rest=0.0)
    return [one + before for before, one in itertools.pairwise(took)]


@pytest.mark.parametrize("each", [0.0001, 0.001, 0.01])
def test_under_overload_a_line_settles_at_the_stated_time(each: float) -> None:
    took = settle(Line(0.2), each)
    assert max(took[100:]) <= 0.2 * 1.2
    assert min(took[100:]) >= 0.2 * 0.7


def test_what_normal_load_shows_bounds_the_first_burst() -> None:
    line = Line(0.05)
    loop = Loop(line)
    for _ in range(10):
        loop.batch(10, 0.010)
    assert 95 <= line.limit <= 100  # twice of what fits into the time, before any overload was seen
    assert settle(line, 0.001)[0] <= 0.1


def test_a_line_that_got_short_grows_again_once_answers_are_quick() -> None:
    line = Line(0.05)
    settle(line, 0.01)
    assert line.limit == FEWEST
    settle(line, 0.0001, rounds=60)
    assert line.limit > 150


def test_a_line_that_nobody_fills_stays_as_it_is() -> None:
    line = Line(0.05)
    loop = Loop(line)
    for _ in range(100):
        loop.batch(1, 0.0005)
    assert line.limit == FIRST


def test_a_model_that_takes_long_for_one_may_take_four_times_that_for_many() -> None:
    line = Line(0.05)
    loop = Loop(line)
    for _ in range(50):
        loop.batch(1, 0.2)
    assert line.seconds == pytest.approx(0.8)
    settle(line, 0.001, fixed=0.2)
    assert 150 < line.limit < 350  # two such batches, one after the other, take 0.8 s


def test_a_few_callers_are_refused_by_no_slow_machine() -> None:
    line = Line(0.05)
    loop = Loop(line)
    for _ in range(20):
        loop.batch(8, 100.0, rest=0.0)
    assert line.limit == FEWEST == 8


def test_a_hiccup_shortens_no_line() -> None:
    line = Line(0.05)
    loop = Loop(line)
    for _ in range(100):
        loop.batch(3, 1.0)
        loop.batch(3, 0.001)
    assert line.limit == FIRST


def test_no_line_is_longer_than_the_longest() -> None:
    line = Line(0.05)
    settle(line, 1e-9)
    assert line.limit == LONGEST


def test_who_is_refused_is_told_when_to_ask_again() -> None:
    refusal = Line(0.05).refusal("m")
    assert status_of(refusal.code) == 429
    assert headers_of(refusal) == {"retry-after": "1"}
    assert "1024 requests wait for 'm'" in refusal.message
