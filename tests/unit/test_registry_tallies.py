"""How stretches of time are laid out and joined for the timeline."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from registry.course import LEAST_LABELS, accuracy_course, accuracy_points
from registry.tallies import GRID, Tally, even_edges, gather

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def spans(counts: list[int], least: int, cuts: tuple[int, ...] = ()) -> list[tuple[int, int, int]]:
    return [(span.first, span.last, span.held) for span in gather(counts, least, cuts)]


def test_stretches_are_even_and_cut_where_the_routing_changed() -> None:
    edges = even_edges(NOON, NOON + SECOND * 4, 2, [NOON + SECOND, NOON - SECOND])
    assert edges == [NOON, NOON + SECOND, NOON + SECOND * 2, NOON + SECOND * 4]


def test_full_stretches_stand_alone() -> None:
    assert spans([20, 30, 0, 25], 20) == [(0, 1, 20), (1, 2, 30), (3, 4, 25)]


def test_sparse_stretches_are_joined_until_they_hold_enough() -> None:
    assert spans([9, 9, 0, 9, 9, 9, 9], 20) == [(0, 4, 27), (4, 7, 27)]


def test_what_is_left_over_joins_the_span_before() -> None:
    assert spans([20, 20, 5], 20) == [(0, 1, 20), (1, 3, 25)]


def test_no_span_reaches_over_a_pause_when_it_can_do_without() -> None:
    assert spans([20, 5, 0, 0, 0, 0, 20], 20) == [(0, 2, 25), (6, 7, 20)]
    assert spans([5, 0, 0, 0, 0, 20], 20) == [(0, 6, 25)]


def test_no_span_reaches_over_a_cut() -> None:
    assert spans([20, 5, 30], 20, (1, 2)) == [(0, 1, 20), (1, 2, 5), (2, 3, 30)]
    assert spans([5, 5, 5], 20, (1,)) == [(0, 1, 5), (1, 3, 10)]


def test_nothing_makes_no_spans() -> None:
    assert spans([0, 0], 20) == []
    assert spans([], 20) == []


def losses(n: int, wrong: int) -> Tally:
    return Tally(n, float(wrong), {0: n - wrong, GRID: wrong})


def test_a_point_says_how_good_its_labels_were_and_lies_where_they_lie() -> None:
    edges = [NOON + SECOND * 10 * index for index in range(4)]
    (point,) = accuracy_points([{1: losses(30, 3)}, {}, {1: losses(10, 1)}], edges)
    assert (point.n, point.version) == (40, 1)
    assert abs(point.mean - 0.9) < 1e-12
    assert 0.6 < point.low < point.mean < point.high < 1.0
    assert point.at == NOON + SECOND * 10


def test_now_is_what_the_last_routing_came_to() -> None:
    edges = [NOON + SECOND * index for index in range(4)]
    stretches = [{1: losses(90, 0)}, {2: losses(90, 90)}, {1: losses(90, 9)}]
    course = accuracy_course(stretches, edges, [edges[2]], [])
    assert course.now is not None
    assert abs(course.now - 0.9) < 1e-12
    assert course.lowest == 0.0


def test_without_labels_nothing_is_said() -> None:
    edges = [NOON, NOON + SECOND]
    course = accuracy_course([{}], edges, [], [])
    assert (course.before, course.lowest, course.now) == (None, None, None)
    assert LEAST_LABELS > 0
