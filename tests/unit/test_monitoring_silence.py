"""Silence is a signal where it is longer than stated or usual, and nowhere else."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from monitoring.silence import allowed_silence, is_silent, is_unwatched

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MINUTE = timedelta(minutes=1)


def office_hours(days: int) -> list[tuple[datetime, datetime]]:
    """Busy from 8 to 18 on weekdays; the first day is a Monday."""
    monday = datetime(2026, 11, 2, tzinfo=UTC)
    return [
        (monday + day * DAY + hour * HOUR, monday + day * DAY + hour * HOUR + 59 * MINUTE)
        for day in range(days)
        if day % 7 < 5
        for hour in range(8, 18)
    ]


def test_a_stream_that_rests_over_the_weekend_may_be_quiet_for_two_of_them() -> None:
    weekend = timedelta(days=2, hours=14, minutes=1)  # Friday 17:59 to Monday 8:00
    assert allowed_silence(None, office_hours(14)) == 2 * weekend


def test_nothing_is_learnt_before_a_weekend_was_seen() -> None:
    assert allowed_silence(None, []) is None
    assert allowed_silence(None, office_hours(5)) is None


def test_what_the_owner_states_holds_whatever_the_stream_did() -> None:
    assert allowed_silence(90.0, office_hours(14)) == timedelta(seconds=90)
    assert allowed_silence(0.0, office_hours(14)) is None


def test_the_learnt_silence_is_seldom_passed_by_a_stream_that_goes_on_as_before() -> None:
    """Calls with pauses of 3 h in the mean: under 1 false silence in 14 days, 40 seeds."""
    false = 0
    for seed in range(40):
        pauses = np.random.default_rng(seed).exponential(3.0, 400).cumsum()
        times = [NOON + float(pause) * HOUR for pause in pauses]
        learnt = [(one, one) for one in times if one < NOON + 14 * DAY]
        allowed = allowed_silence(None, learnt)
        assert allowed is not None
        later = [one for one in times if NOON + 14 * DAY <= one < NOON + 28 * DAY]
        false += sum(
            is_silent(before, NOON, allowed, after) for before, after in itertools.pairwise(later)
        )
    assert false <= 2


@pytest.mark.parametrize(("minutes", "silent"), [(9, False), (11, True)])
def test_a_stream_is_silent_once_its_pause_is_longer_than_allowed(
    minutes: int, silent: bool
) -> None:
    assert is_silent(NOON, NOON - DAY, 10 * MINUTE, NOON + minutes * MINUTE) is silent


def test_what_nobody_was_there_to_take_is_not_missed() -> None:
    back = NOON + DAY
    assert not is_silent(NOON, back, 10 * MINUTE, back + 5 * MINUTE)
    assert is_silent(NOON, back, 10 * MINUTE, back + 11 * MINUTE)
    assert is_silent(None, back, 10 * MINUTE, back + 11 * MINUTE)


def test_a_silence_that_was_told_ends_with_the_next_event_and_not_with_a_restart() -> None:
    told, restart = NOON + HOUR, NOON + 2 * HOUR
    later = restart + MINUTE
    assert is_silent(NOON, restart, 10 * MINUTE, later, told)
    assert not is_silent(later, restart, 10 * MINUTE, later, told)
    assert not is_silent(NOON, restart, None, later, told)  # its owner wants to hear no more of it


def test_a_monitor_that_misses_stretch_after_stretch_has_stopped() -> None:
    assert is_unwatched([(50, 0), (40, 0), (60, 3)]) is True
    assert is_unwatched([(100, 75), (100, 74), (100, 76)]) is True  # one gateway of four


def test_a_killed_gateway_and_a_quiet_hour_are_no_stopped_monitor() -> None:
    assert is_unwatched([(50, 50), (40, 40), (9, 0)]) is None
    assert is_unwatched([(0, 0), (0, 0), (0, 0)]) is None
    assert is_unwatched([(50, 0), (40, 0), (60, 60)]) is False
