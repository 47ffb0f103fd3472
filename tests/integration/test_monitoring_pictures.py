"""The timeline's picture and page, and Evidently's report, as files."""

import io
import math
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

import monitoring.report
from homeostat.errors import DataError
from homeostat.schema import Feature
from monitoring import (
    AccuracyPoint,
    EvidencePoint,
    IncidentNote,
    LedgerLine,
    Mark,
    ReleaseNote,
    SharePoint,
    Timeline,
    VersionNote,
    batch_report,
    draw,
    write_page,
)
from monitoring.drawing import DPI, render, sheet_of
from monitoring.looks import LIGHT, LOOKS
from monitoring.marking import assign_lanes
from monitoring.report import Preset
from monitoring.timeline import splits, when

START = datetime(2026, 11, 21, 14, 0, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def a_day() -> Timeline:
    limit = math.log(100_000)
    return Timeline(
        model="digits",
        start=START,
        end=at(20),
        accuracy=[
            AccuracyPoint(at(m), 100, 0.9 - 0.02 * m, 0.8 - 0.02 * m, 0.97 - 0.02 * m, 1 + m // 10)
            for m in range(20)
        ],
        evidence=[EvidencePoint(at(m), "loss", m * 25.0, limit) for m in range(20)],
        shares=[
            SharePoint(at(0), 1, 1.0),
            SharePoint(at(8), 1, 0.8),
            SharePoint(at(8), 2, 0.2),
            SharePoint(at(10), 2, 1.0),
        ],
        marks=[Mark(at(m % 19), "incident", f"Event {m} <b>&$x^2$") for m in range(40)],
        figures=[("Labels to <rollback>", "31")],
        summary="It fell & <rose>.",
        incidents=[
            IncidentNote(
                at(3), None, "page", "mitigated", "Worse <i>", ((at(3), "<u>"),), "undo <now>"
            )
        ],
        versions=[VersionNote(1, 10, 9, 0.5, (ReleaseNote("champion", at(0), at(8), "<s>", "x"),))],
        ledger=[LedgerLine(1, at(0), "version 1 champion", "<guard>", "first")],
    )


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "timeline.png"
    draw(a_day(), path)
    picture = imread(path)
    assert picture.shape[1] == 1_920
    assert picture.shape[0] > 1_200
    assert 0.02 < (picture[:, :, :3].mean(axis=2) < 0.9).mean() < 0.6  # ink on white


@pytest.mark.parametrize("look", LOOKS)
def test_a_timeline_of_nothing_is_drawn(look: str) -> None:
    assert imread(io.BytesIO(render(Timeline("digits", START, START), LOOKS[look]))).size


@pytest.mark.parametrize("length", [2.0, 90.0, 4_000.0, 200_000.0, 4e7, 4e8])
def test_any_length_of_time_is_drawn(length: float) -> None:
    end = START + timedelta(seconds=length)
    assert imread(io.BytesIO(render(Timeline("digits", START, end)))).size


def test_labels_never_lie_on_one_another() -> None:
    from matplotlib.figure import Figure

    lanes = assign_lanes(sheet_of(Figure(dpi=DPI), a_day(), LOOKS["light_narrow"]))
    assert lanes
    told = [lane for lane in lanes if lane.row >= 0]
    assert len({(lane.row, lane.mark.at) for lane in told}) == len(told)


def test_neighbours_of_one_kind_share_a_label() -> None:
    from matplotlib.figure import Figure

    marks = [
        Mark(at(5), "incident", "inputs changed"),
        Mark(at(5.01), "incident", "accuracy fell"),
        Mark(at(5.01), "rollback", "traffic back to v1"),
    ]
    sheet = sheet_of(Figure(dpi=DPI), Timeline("digits", START, at(20), marks=marks), LIGHT)
    texts = sorted(lane.text for lane in assign_lanes(sheet))
    assert texts == ["inputs changed, accuracy fell", "traffic back to v1"]


def test_the_page_needs_nothing_else_and_escapes_what_it_tells(tmp_path: Path) -> None:
    path = tmp_path / "timeline.html"
    write_page(a_day(), path)
    page = path.read_text(encoding="utf-8")
    assert not re.search(r"(?:src|srcset|href)=[\"'](?!data:)|@import|url\(|<script", page)
    assert "Labels to &lt;rollback&gt;" in page
    assert "Event 39 &lt;b&gt;&amp;$x^2$" in page
    for told in ("fell &amp; &lt;rose&gt;", "Worse &lt;i&gt;", "&lt;u&gt;", "undo &lt;now&gt;"):
        assert told in page
    assert "&lt;s&gt;" in page
    assert "&lt;guard&gt;" in page
    assert not re.search(r"<(?:b|i|u|s|rose|now|guard)>", page)
    assert "prefers-color-scheme: dark" in page
    assert page.count("data:image/png;base64,") == len(LOOKS)


def test_traffic_is_told_in_whole_splits() -> None:
    assert [split for _, _, split in splits(a_day())] == [{1: 1.0}, {1: 0.8, 2: 0.2}, {2: 1.0}]


def test_the_period_is_told_with_seconds_where_it_is_short() -> None:
    assert when(a_day()) == "21 Nov 2026, 14:00:00 to 14:20:00 UTC"
    days = Timeline("digits", START, START + timedelta(days=2))
    assert when(days) == "21 Nov 2026, 14:00 to 23 Nov 2026, 14:00 UTC"


def frame(rows: int, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "x": rng.normal(shift, 1, rows),
            "kind": rng.choice(["a", "b"], rows),
            "empty": np.full(rows, np.nan),
        }
    )


FEATURES = [Feature("x"), Feature("kind", "categorical", ("a", "b")), Feature("empty")]


def test_the_drift_report_is_a_page_and_sends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitoring.report, "ROWS", 500)
    report = batch_report(frame(700, 1.0), frame(300), FEATURES, tmp_path / "drift.html")
    page = report.path.read_text(encoding="utf-8")
    assert os.environ["DO_NOT_TRACK"] == "1"
    assert (report.features, report.left_out) == (("x", "kind"), ("empty",))
    assert (report.rows_current, report.rows_reference, report.sampled) == (500, 300, True)
    assert "500 of 700 current rows against 300 of 300 reference rows, sampled" in page
    assert "Left out, without values on one side: empty." in page


@pytest.mark.parametrize("preset", ["regression", "quality"])  # a flow makes the other
def test_every_preset_has_its_page(tmp_path: Path, preset: Preset) -> None:
    rng = np.random.default_rng(1)
    now, then = (
        frame(60).assign(target=rng.integers(0, 2, 60), prediction=rng.integers(0, 2, 60))
        for _ in range(2)
    )
    done = batch_report(now, then, FEATURES[:1], tmp_path / "x.html", preset, "here and <there>")
    assert "here and &lt;there&gt;: 60 of 60" in done.path.read_text(encoding="utf-8")


def test_performance_without_truths_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lack the column 'target'"):
        batch_report(frame(9), frame(9), FEATURES[:1], tmp_path / "x.html", "classification")


def test_a_report_on_a_missing_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="current rows lack the column 'y'"):
        batch_report(frame(10), frame(10), [Feature("y")], tmp_path / "drift.html")


def test_a_report_on_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to compare"):
        batch_report(frame(0), frame(10), FEATURES, tmp_path / "drift.html")
