from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from homeostat.errors import InputError
from registry.choosing import Bounds, choose, latency, memory, share
from registry.matrix import Standing
from registry.verdicts import Verdict

PASSED = Verdict(True, (), "aa" * 32)
FAST = Standing(
    version=1,
    number="1.0.0",
    digest="aa" * 32,
    verdict=PASSED,
    weights=9610,
    size_bytes=40_000,
    latency_p50_ms=0.4,
    latency_p99_ms=1.5,
    throughput_rows_s=90_000.0,
    memory_bytes=20_000_000,
    accuracy={0: 0.96, 1: 0.91},
    created_at=datetime(2026, 11, 22, tzinfo=UTC),
)
RIGHT = replace(
    FAST,
    version=2,
    number="2.0.0",
    latency_p99_ms=12.0,
    memory_bytes=400_000_000,
    accuracy={0: 0.95, 1: 0.97},
)


def test_without_bounds_the_most_accurate_on_the_newest_regime_is_chosen() -> None:
    choice = choose([FAST, RIGHT], Bounds())

    assert choice.chosen == RIGHT
    assert choice.regime == 1
    assert choice.decided == (
        "Of 2 within every bound it has the highest accuracy on regime 1: 0.9700 against 0.9100"
        " of version 1."
    )


def test_another_regime_may_decide_otherwise() -> None:
    assert choose([FAST, RIGHT], Bounds(regime=0)).chosen == FAST


def test_every_bound_that_a_version_broke_is_told() -> None:
    choice = choose([FAST, RIGHT], Bounds(latency_ms=5.0, memory_bytes=1e8, accuracy=0.9))

    assert choice.chosen == FAST
    assert choice.decided == "It is the only version within every bound."
    assert choice.broken == {
        2: ("latency p99 12 ms, more than 5 ms", "memory 400 MB, more than 100 MB")
    }


def test_where_none_is_within_every_bound_none_is_chosen() -> None:
    choice = choose([FAST, RIGHT], Bounds(latency_ms=5.0, accuracy=0.95))

    assert choice.chosen is None
    assert choice.broken[1] == ("accuracy 0.9100 on regime 1, less than 0.95",)
    assert choice.broken[2] == ("latency p99 12 ms, more than 5 ms",)


@pytest.mark.parametrize(
    ("fallen", "why"),
    [
        (replace(RIGHT, barred="it lost accuracy"), "in quarantine: it lost accuracy"),
        (replace(RIGHT, verdict=Verdict(False, (), "")), "its gates refused it"),
        (replace(RIGHT, verdict=None), "its gates never judged it"),
    ],
)
def test_what_is_quarantined_refused_or_unjudged_is_never_chosen(
    fallen: Standing, why: str
) -> None:
    choice = choose([FAST, fallen], Bounds())

    assert choice.chosen == FAST
    assert choice.broken == {2: (why,)}
    assert choose([fallen], Bounds()).chosen is None


def test_what_was_never_measured_breaks_a_bound_and_loses_a_tie() -> None:
    unknown = replace(RIGHT, latency_p99_ms=None, memory_bytes=None)

    assert choose([unknown], Bounds(latency_ms=1e6)).broken == {2: ("latency p99 never measured",)}
    tied = replace(FAST, accuracy=unknown.accuracy)
    choice = choose([unknown, tied], Bounds())
    assert choice.chosen == tied
    assert "1.5 ms against one that was never measured of version 2" in choice.decided


@pytest.mark.parametrize(
    ("change", "decided"),
    [
        (lambda one: replace(one, latency_p99_ms=1.0), "the lowest latency p99"),
        (lambda one: replace(one, memory_bytes=1_000_000), "the least memory"),
        (lambda one: replace(one, size_bytes=1_000), "the smallest files"),
        (lambda one: one, "the newest"),
    ],
)
def test_among_equals_latency_memory_size_and_age_decide_in_this_order(
    change: Callable[[Standing], Standing], decided: str
) -> None:
    choice = choose([FAST, change(replace(FAST, version=3))], Bounds())

    assert choice.chosen is not None
    assert choice.chosen.version == 3
    assert decided in choice.decided


def test_a_version_that_was_not_judged_on_the_regime_is_not_guessed() -> None:
    old = replace(FAST, accuracy={0: 0.99})

    choice = choose([old, RIGHT], Bounds(accuracy=0.9))

    assert choice.chosen == RIGHT
    assert choice.broken == {1: ("never judged on regime 1",)}


def test_a_regime_that_no_version_knows_is_refused() -> None:
    with pytest.raises(InputError, match="regime 7"):
        choose([FAST, RIGHT], Bounds(regime=7))


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (latency, "20ms", 20.0),
        (latency, "0.5 s", 500.0),
        (latency, "800us", 0.8),
        (memory, "500MB", 5e8),
        (memory, "1.5 GiB", 1.5 * 1024**3),
        (share, "0.9", 0.9),
        (share, "90%", 0.9),
    ],
)
def test_quantities_are_read_with_their_units(
    read: Callable[[str], float], text: str, value: float
) -> None:
    assert read(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (latency, "20"),
        (latency, "20MB"),
        (latency, "-1ms"),
        (latency, "0ms"),
        (latency, "fast"),
        (memory, "500"),
        (memory, "500mb"),
        (memory, "nan MB"),
        (share, "90"),
        (share, "1.1"),
        (share, "0.9ms"),
        (share, "101%"),
    ],
)
def test_a_quantity_without_its_unit_is_refused_with_how_to_write_it(
    read: Callable[[str], float], text: str
) -> None:
    with pytest.raises(InputError) as caught:
        read(text)
    assert "Write" in caught.value.remedy
