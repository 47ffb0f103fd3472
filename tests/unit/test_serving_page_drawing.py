"""What the page draws and says: places on an axis, intervals, ages, addresses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from markupsafe import escape

from homeostat.settings import Settings
from monitoring.timeline import AccuracyPoint, SharePoint, Timeline
from serving.page.chart import Axis, height, points
from serving.page.course import _accuracy, _traffic, _unbroken
from serving.page.model import accuracy_of, accuracy_of_sum, mlflow_page, prefect_page
from serving.page.rendering import ago, clock, linked, power

START = datetime(2026, 11, 26, 3, tzinfo=UTC)
AXIS = Axis(START, START + timedelta(hours=1))


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def test_a_moment_has_its_place_on_the_axis_and_none_beyond_its_ends() -> None:
    assert [AXIS.x(at(minutes)) for minutes in (-5, 0, 15, 60, 90)] == [0, 0, 25, 100, 100]
    assert Axis(START, START).x(START) == 0


def test_a_value_is_drawn_from_the_top() -> None:
    assert [height(value, 0.5, 1.0) for value in (0.4, 0.5, 0.75, 1.0)] == [100, 100, 50, 0]
    assert points([0, 1.5], [100, 2]) == "0,100 1.5,2"


def test_a_pause_parts_a_line() -> None:
    found = _unbroken([(0.0, "a"), (5.0, "b"), (40.0, "c"), (41.0, "d")])
    assert [[one for _, one in part] for part in found] == [["a", "b"], ["c", "d"]]


def test_a_lonely_point_is_a_dot_and_others_are_a_line_with_a_band() -> None:
    own = [AccuracyPoint(at(m), 30, 0.9, 0.8, 0.95, 2) for m in (0, 2, 30)]
    line = _accuracy(own, AXIS, 0.5, 1)
    assert (len(line.parts), len(line.bands), len(line.dots)) == (1, 1, 1)
    assert line.name == "version 2"
    assert line.last == "90.0% (80.0% to 95.0%)"


def test_traffic_is_stacked_by_version_and_leads_to_a_moment_within() -> None:
    shares = [SharePoint(at(0), 1, 1.0), SharePoint(at(30), 1, 0.8), SharePoint(at(30), 2, 0.2)]
    found = _traffic(Timeline("digits", AXIS.start, AXIS.end, shares=shares), AXIS, [1, 2])
    assert [one.text for one in found] == ["version 1 100 %", "version 1 80 %, version 2 20 %"]
    assert found[1].shares == ((1, 0, 0.0, 80.0), (2, 1, 80.0, 20.0))
    assert found[1].at == at(45)


def test_the_interval_of_a_sum_is_that_of_errors_and_wider_for_losses_between() -> None:
    errors = [0.0] * 90 + [1.0] * 10
    plain, summed = accuracy_of(errors), accuracy_of_sum(100, 10.0)
    assert plain is not None
    assert summed is not None
    assert (summed.low, summed.high) == pytest.approx((plain.low, plain.high), abs=1e-9)
    soft = np.random.default_rng(0).beta(2, 18, 100)
    narrow, wide = accuracy_of(soft.tolist()), accuracy_of_sum(100, float(soft.sum()))
    assert narrow is not None
    assert wide is not None
    assert wide.low <= narrow.low <= narrow.mean <= narrow.high <= wide.high
    assert accuracy_of_sum(0, 0.0) is None
    assert accuracy_of([]) is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(5, "5 s"), (119, "119 s"), (130, "2 min"), (8000, "2 h"), (300_000, "3 d")],
)
def test_an_age_has_one_unit(seconds: float, said: str) -> None:
    age = ago(START, START + timedelta(seconds=seconds))
    assert age.replace("\N{NO-BREAK SPACE}", " ") == said


def test_a_moment_of_another_day_says_which() -> None:
    assert clock(at(1), at(5)) == "03:01:00"
    assert clock(at(1), at(60 * 24)) == "26 Nov 03:01"


def test_an_e_value_is_a_number_while_it_is_small_and_a_power_of_ten_then() -> None:
    assert power(0.0) == "1"
    assert power(np.log(10) * 31.55) == "10<sup>31.6</sup>"


def test_links_to_other_pages_hold_no_password() -> None:
    settings = Settings(
        mlflow_url="https://ann:secret@mlflow.example/tracking/",
        prefect_url="http://127.0.0.1:4200/api",
    )
    place = "https://mlflow.example/tracking/#/models/a%2Fb/versions/3"
    assert mlflow_page(settings, "a/b", 3) == place
    assert prefect_page(settings, "run-1") == "http://127.0.0.1:4200/runs/flow-run/run-1"


def test_an_address_leads_there_only_within_what_is_ours() -> None:
    ours = ("http://127.0.0.1:5000/",)
    text = (
        "Report: http://127.0.0.1:5000/#/runs/1 <b> http://127.0.0.1:50001/ https://evil.example/"
    )
    assert linked(text, ours) == (
        'Report: <a href="http://127.0.0.1:5000/#/runs/1">http://127.0.0.1:5000/#/runs/1</a>'
        " &lt;b&gt; http://127.0.0.1:50001/ https://evil.example/"
    )
    assert linked(text, ()) == escape(text)
