from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows.backtest import Course, Replayed, Tally
from flows.backtest_page import LINE_HEIGHT, check_page, picture_of, spread, write_page
from flows.backtest_runs import Stream
from homeostat.errors import InputError
from models import Dataset

STREAM = Stream("<b>s</b>", Dataset.of([[0.0]] * 1_000, [0] * 1_000), Course(warmup=200))


def replayed(rule: str, loss: float) -> Replayed:
    losses = np.where(np.arange(800) < 400, 0.0, loss)
    return Replayed(rule, losses, Tally(alarms=[650], retrains=[700], refused=[660]), 1.5)


FOUND = [replayed("homeostat", 0.1), replayed("never", 0.42), replayed("every 500", 0.1)]


def test_the_page_needs_nothing_from_elsewhere_and_names_every_rule(tmp_path: Path) -> None:
    write_page(tmp_path / "p.html", "m<i>", [(STREAM, FOUND)])
    page = (tmp_path / "p.html").read_text()
    assert "<b>s</b>" not in page
    assert "m<i>" not in page
    for text in ("homeostat", "never", "every 500", "0.950", "0.790", "&lt;b&gt;s"):
        assert text in page
    for foreign in ("<script", "<link", "src=", "url(", "http:", "https:"):
        assert foreign not in page


def test_a_curve_spans_the_rows_after_the_warmup_from_top_to_bottom() -> None:
    picture = picture_of(STREAM, FOUND)
    never = picture.curves[1]
    first, last = ([float(one) for one in at.split(",")] for at in never.points.split(" ")[::99])
    assert first[1] == 0.0  # all were right
    assert last == pytest.approx([960.0, 300 * 0.42 / 0.5], abs=0.1)
    assert (never.retrains, never.refused) == ((600.0,), (552.0,))
    assert picture.levels[0] == (300.0, "0.5")
    assert picture.rows[0] == (0.0, "200")


def test_names_never_cover_one_another() -> None:
    places = sorted(curve.label for curve in picture_of(STREAM, FOUND).curves)
    assert np.diff(places).min() >= LINE_HEIGHT
    assert spread([5.0, 5.0, 5.0], 10.0, 100.0) == [5.0, 15.0, 25.0]
    assert spread([99.0, 98.0], 10.0, 100.0) == [100.0, 90.0]


def test_a_page_that_cannot_be_written_is_refused_before_the_replay(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        check_page(tmp_path / "none" / "p.html")
    with pytest.raises(InputError, match="cannot be written"):
        check_page(tmp_path)
