"""A full line refuses early, by what was measured; nothing here waits for a clock."""

from __future__ import annotations

import pytest

from serving.line import FIRST, LONGEST, Line
from serving.problems import headers_of, status_of


def settle(line: Line, each: float, fixed: float = 0.0, rounds: int = 200) -> list[float]:
    """Batches of as many as the line takes, at so many seconds each; how long each took."""
    took = []
    for _ in range(rounds):
        requests = line.limit
        took.append(fixed + requests * each)
        line.measured(requests, took[-1])
    return took


@pytest.mark.parametrize("each", [0.0001, 0.001, 0.01])
def test_under_overload_a_line_settles_at_the_stated_time(each: float) -> None:
    took = settle(Line(0.05), each)
    assert max(took[100:]) <= 0.05 * 1.2
    assert min(took[100:]) >= 0.05 * 0.7


def test_what_normal_load_shows_bounds_the_first_burst() -> None:
    line = Line(0.05)
    for _ in range(10):
        line.measured(10, 0.010)
    assert line.limit == 100  # twice of what fits into the time, before any overload was seen
    assert settle(line, 0.001)[0] <= 0.1


def test_a_line_that_got_short_grows_again_once_answers_are_quick() -> None:
    line = Line(0.05)
    settle(line, 0.01)
    assert line.limit <= 6
    settle(line, 0.0001, rounds=60)
    assert line.limit > 300


def test_a_line_that_nobody_fills_stays_as_it_is() -> None:
    line = Line(0.05)
    for _ in range(100):
        line.measured(1, 0.0005)
    assert line.limit == FIRST


def test_a_model_that_takes_long_for_one_may_take_four_times_that_for_many() -> None:
    line = Line(0.05)
    for _ in range(50):
        line.measured(1, 0.2)
    assert line.seconds == pytest.approx(0.8)
    settle(line, 0.001, fixed=0.2)
    assert 400 < line.limit < 700


def test_one_may_always_wait() -> None:
    line = Line(0.05)
    for _ in range(2):
        line.measured(100, 100.0)
    assert line.limit == 1


def test_a_hiccup_shortens_no_line() -> None:
    line = Line(0.05)
    for _ in range(100):
        line.measured(3, 1.0)
        line.measured(3, 0.001)
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
