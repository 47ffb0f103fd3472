import math
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.drift_budget import DIFFERENCES, TOLERANCE, Count, Setting, count, settings
from benchmarks.drift_delay import bound, first_after, informed
from benchmarks.drift_streams import INPUTS, LABELS, PAIRS, Change, by_sd, of_errors, of_normals


def test_a_delay_counts_from_the_change_and_early_alarms_do_not_shorten_it() -> None:
    found = [first_after(one, 500) - 500 for one in ([5, 540, 590], [500], [])]
    assert found == [40, math.inf, math.inf]


def test_a_promise_is_kept_only_if_its_upper_limit_is_within_it() -> None:
    assert Count(rows=3_000, alarms=0).verdict(1_000) == "kept"
    assert Count(rows=2_900, alarms=0).verdict(1_000) == "unsure"
    assert Count(rows=3_000, alarms=4).verdict(1_000) == "BROKEN"


def test_in_full_each_detector_is_counted_at_each_budget_over_enough_rows_to_show_it() -> None:
    """Of a detector that never alarms the upper limit is 3, and of ours it is a few alarms more."""
    found = list(settings(full=True))
    detectors = {"LossDetector", "GuardDetector", "InputDetector"}
    budgets = {10_000, 100_000, 1_000_000}
    assert {(one.detector, one.budget) for one in found} == {
        (detector, budget) for detector in detectors for budget in budgets
    }
    for one in found:
        assert Count(one.rows * one.streams, alarms=3).verdict(one.budget) == "kept"
        assert one.rows >= one.budget / 2


def test_the_guard_is_counted_where_nothing_changed_and_where_all_that_is_tolerated_did() -> None:
    means = {kind: np.dot([1, 0, -1], odds) for kind, odds in DIFFERENCES.items()}
    assert means == pytest.approx({"same": 0.0, "edge": TOLERANCE})
    same, edge = (
        count(Setting("GuardDetector", 500, kind=kind, budgets=20, streams=1), 0)
        for kind in ("same", "edge")
    )
    assert same < edge


def test_a_count_repeats_itself_and_another_stream_is_another_draw() -> None:
    setting = Setting("InputDetector", 100, 2, "correlated", budgets=300, streams=1)
    first, again, *others = (count(setting, stream) for stream in (0, 0, 1, 2, 3))
    assert first == again
    assert len({first, *others}) > 1


def test_the_bound_is_the_budget_over_what_a_label_tells() -> None:
    assert bound(of_errors(0.1, 0.2)) == pytest.approx(259, abs=1)
    assert of_normals(by_sd([4], 1.0), PAIRS) == pytest.approx(1 / 0.72)


# The mean of a rotation's odds before it lies in rows too rare to be drawn.
KNOWN = [one for one in (*LABELS, *INPUTS) if one.likelihood and one.name != "rotation"]


@pytest.mark.parametrize("change", KNOWN, ids=lambda one: one.name)
def test_who_knows_a_change_bets_fairly_before_it_and_wins_its_divergence_after(
    change: Change,
) -> None:
    assert change.likelihood is not None
    odds = change.likelihood(change.streams(1, 20, 1_000, 1_000))
    before, after = np.exp(odds[:, :1_000]), odds[:, 1_000:]
    errors = [part.std() / math.sqrt(part.size) for part in (before, after)]
    assert abs(before.mean() - 1.0) < 4 * errors[0]
    if not math.isnan(change.divergence):
        assert abs(after.mean() - change.divergence) < 4 * errors[1]
    assert all(one and one[0] > 200 for one in informed(odds))


def test_what_needs_no_peer_runs_with_numpy_and_scipy_alone() -> None:
    """Else its long parts could not be run on a machine that has no more than these."""
    code = "import sys, benchmarks.drift; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    others = {"httpx", "psutil", "pydantic", "sqlalchemy", "torch", "pandas", "river", "evidently"}
    assert not others & set(done.stdout.split())


@pytest.mark.parametrize("change", [*LABELS, *INPUTS], ids=lambda change: change.name)
def test_a_change_begins_where_it_is_said_to_and_its_seed_repeats_it(change: Change) -> None:
    one, again = (change.streams(3, 2, 600, 1_200) for _ in range(2))
    assert np.array_equal(one, again)
    unchanged = change.draw(np.random.default_rng([3, 1]), np.zeros(1_800))
    assert np.array_equal(one[1, :600], unchanged[:600])
    assert not np.array_equal(one[1, 600:], unchanged[600:])
