"""The matrix and a choice by it as people see them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from homeostat.commands.output import show_table
from homeostat.commands.versions import cells, headings, standing, told
from registry.choosing import Bounds, choose
from registry.lineage_record import Cost
from registry.matrix import Standing
from registry.verdicts import Verdict

MADE = datetime(2026, 11, 22, tzinfo=UTC)
ROW = Standing(
    version=12,
    number="1.12.3",
    digest="aa" * 32,
    role="challenger",
    state="shadow",
    verdict=Verdict(True, (), "aa" * 32, at=MADE),
    weights=21_418,
    size_bytes=112_480,
    latency_p50_ms=0.4321,
    latency_p99_ms=12.345,
    throughput_rows_s=123_456.7,
    memory_bytes=20_971_520,
    accuracy={0: 0.98391, 1: 0.9, 2: 1.0},
    created_at=MADE,
    cost=Cost(1.5, 1.25, 210, 15, 210, "settled", 6720, 1500, 3.6),
)


def test_a_row_tells_figures_with_three_digits_and_their_units() -> None:
    assert cells(ROW, [0, 1, 2], MADE + timedelta(days=3)) == [
        *("1.12.3", "12", "challenger", "passed", "21.4k", "112kB", "0.432", "12.3"),
        *("123k", "21MB", "14%", "0.984", "0.900", "1.000", "3 d"),
    ]


def test_of_a_training_that_was_no_retrain_the_cost_is_its_processor_seconds() -> None:
    full = replace(ROW, cost=Cost(21.0, 20.06, 1238, 30, 1170, "epochs"))
    assert cells(full, [], MADE)[10] == "20.1s"


def test_what_was_never_measured_stays_blank() -> None:
    row = cells(Standing(version=1, number="", digest=""), [0], MADE)

    assert row == ["", "1", *[""] * 11]


def test_a_version_without_a_role_shows_what_became_of_it_and_quarantine_above_all() -> None:
    assert cells(replace(ROW, role="", state="rolled_back"), [], MADE)[2] == "rolled_back"
    assert cells(replace(ROW, barred="it lost accuracy"), [], MADE)[2] == "quarantined"


def test_the_matrix_fits_a_hundred_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    show_table(headings([0, 1, 2]), [cells(ROW, [0, 1, 2], MADE)], gap=1)

    heading, line = capsys.readouterr().out.splitlines()
    assert max(len(heading.rstrip()), len(line.rstrip())) <= 100
    assert line.split() == " ".join(cells(ROW, [0, 1, 2], MADE)).split()


def test_a_row_is_plain_json() -> None:
    plain = json.loads(json.dumps(standing(ROW)))

    assert plain["accuracy"] == {"0": 0.98391, "1": 0.9, "2": 1.0}
    assert plain["verdict"]["passed"] is True
    assert plain["cost"]["rows_read"] == 6720
    assert (plain["cost"]["share"], plain["cost"]["money"]) == (0.14, 0.0015)
    assert plain["created_at"] == "2026-11-22T00:00:00+00:00"


def test_a_choice_names_the_version_and_why_each_other_is_not_it() -> None:
    slow = replace(ROW, version=13, number="1.12.4", latency_p99_ms=40.0)
    rows = {each.version: each for each in (ROW, slow)}

    lines = told("digits", choose(list(rows.values()), Bounds(latency_ms=20.0)), rows)

    assert lines == [
        "Version 1.12.3 (MLflow version 12) of digits. It is the only version within every bound.",
        "Not 1.12.4 (MLflow version 13): latency p99 40 ms, more than 20 ms.",
    ]
    none = choose([slow], Bounds(latency_ms=20.0))
    assert told("digits", none, rows)[0] == "No version of digits can be recommended."
