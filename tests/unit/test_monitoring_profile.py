import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from homeostat.errors import ArtifactError, InputError
from homeostat.schema import Feature, Task
from monitoring import Profile
from monitoring.columns import draw_bins


def profile_of(
    columns: Sequence[Any],
    features: Sequence[Feature] | None = None,
    task: Task = "classification",
    predicted: NDArray[np.int64] | None = None,
) -> Profile:
    observed = np.column_stack(columns).astype(float)
    n = len(observed)
    features = features or [Feature(f"f{i}") for i in range(observed.shape[1])]
    predicted = np.arange(n) % 3 if predicted is None else predicted
    return Profile.from_reference(
        features, task, observed, predicted, np.linspace(0.5, 1, n), np.zeros(n)
    )


def test_numeric_bins_hold_about_equal_shares() -> None:
    rng = np.random.default_rng(0)
    profile = profile_of([rng.normal(size=5_000)])
    counts = np.array(profile.columns[0].counts)
    assert counts[-1] == 0  # missing
    assert np.all(np.abs(counts[:-1] / counts.sum() - 0.1) < 0.03)


def test_a_constant_column_tells_the_value_from_others() -> None:
    profile = profile_of([np.zeros(100)])
    counts = profile.counts([[0.0], [1e-3], [-1e-3], [np.nan]], [0] * 4, [0.7] * 4)
    assert counts[0, :4].tolist() == [1, 1, 1, 1]
    assert profile.columns[0].counts == (0, 80, 0, 0)


def test_a_heavy_tie_has_a_bin_of_its_own() -> None:
    rng = np.random.default_rng(0)
    values = np.where(rng.random(1_000) < 0.6, 0.0, rng.integers(1, 17, 1_000))
    profile = profile_of([values])
    counts = profile.counts(values[:, None], np.zeros(1_000), np.ones(1_000))[0]
    assert (values == 0).sum() in counts.tolist()


def test_values_that_are_not_finite_go_to_the_missing_bin() -> None:
    profile = profile_of([np.arange(100.0)])
    counts = profile.counts([[np.nan], [np.inf], [-np.inf]], [np.nan] * 3, [np.inf] * 3)
    missing = [column.width - 1 for column in profile.columns]
    assert [int(counts[i, missing[i]]) for i in range(3)] == [3, 3, 3]


def test_an_all_missing_column_is_profiled() -> None:
    profile = profile_of([np.full(50, np.nan)])
    assert profile.columns[0].counts == (0, 40)


def test_categories_fall_to_their_codes_others_and_missing() -> None:
    feature = Feature("colour", "categorical", ("red", "green"))
    profile = profile_of([np.array([0, 1] * 50)], [feature])
    counts = profile.counts([[0.0], [1.0], [2.0], [-1.0], [0.5], [np.nan]], [0] * 6, [0.5] * 6)
    assert counts[0, :4].tolist() == [1, 1, 3, 1]
    assert [profile.columns[0].bin_name(i) for i in range(4)] == [
        "red",
        "green",
        "other",
        "missing",
    ]


def test_bins_of_a_constant_column_are_named_by_its_value() -> None:
    for value, name in ((0.0, "0"), (-2.5, "-2.5"), (1e7, "1e+07")):
        column = draw_bins(Feature("x"), np.full(500, value), np.full(500, value))
        names = [f"below {name}", name, f"above {name}", "missing"]
        assert [column.bin_name(i) for i in range(4)] == names


def test_of_many_categories_the_frequent_ones_keep_a_bin() -> None:
    names = tuple(f"c{i}" for i in range(100))
    values = np.repeat(np.arange(100), np.arange(1, 101))
    profile = profile_of([values], [Feature("city", "categorical", names)])
    column = profile.columns[0]
    assert column.labels == names[70:]
    assert sum(column.counts) == len(values)


def test_one_row_is_a_reference() -> None:
    profile = profile_of([np.array([3.0])])
    assert profile.rows == 1
    assert profile.counts([[3.0]], [0], [0.5]).sum() == 3


def test_neighbouring_and_huge_numbers_are_binned() -> None:
    values = np.tile([1.0, np.nextafter(1.0, 2.0), 1e308, -1e308], 25)
    text = profile_of([values]).to_json()
    assert Profile.from_json(text).to_json() == text


def test_json_round_trip_keeps_everything() -> None:
    rng = np.random.default_rng(1)
    features = [Feature("x"), Feature("kind", "categorical", ("a", "b"))]
    profile = profile_of([rng.normal(size=200), rng.integers(0, 2, 200)], features)
    again = Profile.from_json(profile.to_json())
    assert again.to_json() == profile.to_json()
    assert again.features == profile.features
    assert np.array_equal(again.reference_counts, profile.reference_counts)


def test_merging_adds_counts_and_losses() -> None:
    profile = profile_of([np.arange(100.0)])
    both = profile.merge(profile)
    assert np.array_equal(both.reference_counts, 2 * profile.reference_counts)
    assert both.loss_reference.n == 200


def test_profiles_of_different_bins_do_not_merge() -> None:
    with pytest.raises(InputError, match="different bins"):
        profile_of([np.arange(100.0)]).merge(profile_of([np.arange(100.0) * 2]))


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"task": "poetry"},
        {"columns": []},
        {"losses": {"n": 1, "total": 5.0, "squares": 1.0, "histogram": [0] * 20}},
        {"features": None},
    ],
)
def test_a_bad_profile_is_refused(change: dict[str, Any]) -> None:
    data = json.loads(profile_of([np.arange(20.0)]).to_json())
    with pytest.raises(ArtifactError, match="profile cannot be read"):
        Profile.from_json(json.dumps(data | change))


def test_counts_that_do_not_fit_their_bins_are_refused() -> None:
    data = json.loads(profile_of([np.arange(20.0)]).to_json())
    data["columns"][0]["counts"].append(1)
    with pytest.raises(ArtifactError, match="'f0'"):
        Profile.from_json(json.dumps(data))


def test_text_that_is_not_json_is_refused() -> None:
    with pytest.raises(ArtifactError):
        Profile.from_json("{")


def test_a_reference_without_rows_is_refused() -> None:
    with pytest.raises(InputError, match="has none"):
        profile_of([np.zeros(0)])


def test_a_reference_loss_outside_its_range_is_named() -> None:
    with pytest.raises(InputError, match="Loss 1 of the reference is nan"):
        Profile.from_reference(
            [Feature("x")], "regression", [[1.0], [2.0]], [0, 0], [0, 0], [0.5, np.nan]
        )


def test_a_batch_of_another_width_is_refused() -> None:
    with pytest.raises(InputError, match="1 features"):
        profile_of([np.arange(20.0)]).counts([[1.0, 2.0]], [0], [0.5])
