"""Who answers unseen is asked the rows of a batch on their way to the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from registry.log import unpacked
from serving.entries import AS_FIRST, Unseen
from serving.fleet import Fleet, Split
from serving.metrics import Metrics
from serving.shadows import Shadows

if TYPE_CHECKING:
    from tests.unit.answering.conftest import Batch, Maker


@pytest.mark.parametrize("kind", ["same", "other", "numbers"])
@pytest.mark.parametrize("role", ["standby", "challenger"])
def test_who_answers_unseen_is_asked_on_the_way_to_the_log(
    loaded: Maker, numbers: Maker, batch: Batch, kind: str, role: str
) -> None:
    unseen = numbers(2) if kind == "numbers" else loaded(2, encoding=kind)
    champion = numbers(1) if kind == "numbers" else loaded(1)
    split = Split("m", 1, champion, **{role: unseen}, phase="shadow")  # type: ignore[arg-type]
    fleet = Fleet(("m",))
    fleet.swap(split)
    rows = ["[1, 9]", "[2, 9]", "[5, 9]"] if kind == "numbers" else ["1", "2", "5"]
    bodies = [b'{"rows": [%b, %b]}' % (rows[0].encode(), rows[1].encode())]
    _, (entry,), _ = batch(split, [*bodies, b'{"row": %b}' % rows[2].encode()])
    (asked,) = entry.unseen
    assert bool(asked.x) == (kind == "same")
    (found,) = Shadows(fleet, Metrics()).ask([entry])
    assert found[2][:, 0].tolist() == [201.0, 202.0, 205.0]
    asked.rows, asked.x = [0, 2], asked.x[:4] + asked.x[8:]
    (found,) = Shadows(fleet, Metrics()).ask([entry])
    entry.answered.shadows.append((2, found[2].shape[1], found[2].tobytes()))
    shadows = [one.shadows for one in unpacked(entry.who, entry.answered)]
    assert [len(one) for one in shadows] == [1, 0, 1]
    assert (shadows[2][0][0], shadows[2][0][1].tolist()) == (2, [205.0, -4.0])


def test_the_standby_is_asked_its_share_of_requests_of_plain_numbers(
    numbers: Maker, batch: Batch
) -> None:
    split = Split("m", 1, numbers(1), standby=numbers(2), standby_share=0.25)
    bodies = [b'{"rows": [[1, 2], [3, 4]]}' for _ in range(200)]
    _, (entry,), _ = batch(split, bodies)
    rows = entry.unseen[0].rows
    assert rows is not None
    assert 40 < len(rows) < 180
    assert {row - 1 for row in rows if row % 2} == {row for row in rows if not row % 2}


def test_a_standby_that_fails_on_one_row_answers_the_others(loaded: Maker, batch: Batch) -> None:
    split = Split("m", 1, loaded(1, breaks=False), standby=loaded(2, encoding="other"))
    fleet, metrics = Fleet(("m",)), Metrics()
    fleet.swap(split)
    bodies = [b'{"row": 1}', b'{"row": 13}', b'{"row": -1}', b'{"row": 4}']
    _, (entry,), _ = batch(split, bodies)
    failed: list[tuple[str, int]] = []
    shadows = Shadows(fleet, metrics, lambda model, version: failed.append((model, version)))
    (found,) = shadows.ask([entry])
    assert np.isnan(found[2]).all(axis=1).tolist() == [False, True, True, False]
    assert failed == [("m", 2), ("m", 2)]
    labels = {"model": "m", "version": "2"}
    assert metrics.registry.get_sample_value("homeostat_learner_failures_total", labels) == 2


def test_a_shadow_challenger_and_the_standby_are_asked_the_same_rows_that_are_kept_once(
    loaded: Maker, batch: Batch
) -> None:
    split = Split("m", 1, loaded(1), loaded(2), loaded(3), phase="shadow")
    fleet = Fleet(("m",))
    fleet.swap(split)
    _, (entry,), _ = batch(split, [b'{"rows": [1, 2]}', b'{"row": 3}'])
    assert [(one.version, one.columns, bool(one.x)) for one in entry.unseen] == [
        (2, 1, True),
        (3, AS_FIRST, False),
    ]
    (found,) = Shadows(fleet, Metrics()).ask([entry])
    assert {version: out[:, 0].tolist() for version, out in found.items()} == {
        2: [201, 202, 203],
        3: [301, 302, 303],
    }


def test_shadows_that_take_too_long_are_left_out_and_counted(loaded: Maker, batch: Batch) -> None:
    split = Split("m", 1, loaded(1), standby=loaded(2))
    fleet, metrics = Fleet(("m",)), Metrics()
    fleet.swap(split)
    bodies = [msgspec.json.encode({"rows": [1] * 10})] * 60
    _, (entry,), records = batch(split, bodies)
    (found,) = Shadows(fleet, metrics, seconds=0.0).ask([entry])
    assert np.isfinite(found[2]).all(axis=1).sum() == 256  # what is asked at once, however long
    labels = {"model": "m", "version": "2"}
    value = metrics.registry.get_sample_value
    assert value("homeostat_shadow_rows_dropped_total", labels) == 344
    assert len(records) == 600


def test_no_other_version_answers_in_the_name_of_a_standby_that_is_gone(
    loaded: Maker, batch: Batch
) -> None:
    fleet = Fleet(("m",))
    fleet.swap(Split("m", 2, loaded(3), standby=loaded(2)))
    split = Split("m", 1, loaded(1), standby=loaded(2))
    _, (entry,), _ = batch(split, [b'{"row": 1}'])
    for unseen in (Unseen(2, "of other files", None), Unseen(1, "d1", None)):
        entry.unseen = [unseen]
        assert Shadows(fleet, Metrics()).ask([entry]) == [{}]
