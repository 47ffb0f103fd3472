"""The benchmark of a language model: what it prints is what was measured."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from benchmarks.continual_code import ANEW, CHAMPION, WAYS, Course, Found, lines, run, stream
from models import Code

COURSE = Course("this", "keyword", 40, 20, 10, 2, Code(context=16, width=16, layers=1, horizon=1))


def test_no_row_that_is_read_was_taught_and_the_seed_decides() -> None:
    (old, new), (again, _) = stream(COURSE, 3), stream(COURSE, 3)
    assert old.taught.x.tolist() == again.taught.x.tolist()
    for one in (old, new):
        taught = {tuple(row) for row in one.taught.x.tolist()}
        assert len(one.held_out) > 0
        assert not taught & {tuple(row) for row in one.held_out.x.tolist()}


def test_every_way_is_run_from_the_same_champion() -> None:
    with ThreadPoolExecutor(1) as pool:
        (found,) = run(COURSE, 1, pool)
    assert list(found) == [CHAMPION, ANEW, *WAYS]
    assert all(0 < one.old < 12 and one.seconds > 0 for one in found.values())


def test_a_line_says_what_was_lost_and_which_share_was_gained() -> None:
    ways = {name: Found(3.0, 2.0, 1.0) for name in WAYS}
    runs = [{CHAMPION: Found(2.5, 4.0, 9.0), ANEW: Found(2.4, 2.5, 10.0)} | ways] * 2
    said = {line[:21].strip(): line[21:].split() for line in lines(runs)}
    assert said["fine-tune"][::3] == ["3.000", "2.000", "0.500", "1.000", "10%"]
    assert said[ANEW][6:10:3] == ["-0.100", "0.750"]
