import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from homeostat.errors import InputError
from homeostat.schema import Feature
from monitoring import InputDetector, Profile
from monitoring.bets import highest_mean, robust_bet, total_variation, upper_bound
from monitoring.portfolio import Portfolio
from monitoring.stakes import PRIOR, Stakes

Floats = NDArray[np.float64]


def profile_of(rows: Floats, predicted: ArrayLike | None = None) -> Profile:
    n = len(rows)
    features = [Feature(f"f{i}") for i in range(rows.shape[1])]
    predicted = np.zeros(n) if predicted is None else predicted
    confidence = np.linspace(0.4, 1.0, n)
    return Profile.from_reference(
        features, "classification", rows, predicted, confidence, np.zeros(n)
    )


def feed(
    detector: InputDetector,
    rows: Floats,
    rng: np.random.Generator,
    predicted: ArrayLike | None = None,
) -> None:
    predicted = np.zeros(len(rows)) if predicted is None else predicted
    detector.update(rows, predicted, rng.uniform(0.4, 1.0, len(rows)))


def test_single_rows_add_up_to_the_evidence_of_micro_batches() -> None:
    rng = np.random.default_rng(0)
    profile = profile_of(rng.normal(size=(1_000, 3)))
    one, many = InputDetector(profile, 1_000, 0.05), InputDetector(profile, 1_000, 0.05)
    rows, confidence = rng.normal(0.8, 1, size=(160, 3)), rng.uniform(0.4, 1, 160)
    for i in range(160):
        one.update(rows[i : i + 1], [0.0], confidence[i : i + 1])
    many.update(rows, np.zeros(160), confidence)
    assert one.to_json() == many.to_json()


def test_the_guilty_column_is_named_with_the_bin_that_moved() -> None:
    rng = np.random.default_rng(1)
    detector = InputDetector(profile_of(rng.normal(size=(2_000, 10))), 100_000, 0.1)
    feed(detector, rng.normal(size=(512, 10)), rng)
    rows = rng.normal(size=(256, 10))
    rows[:, 4] += 2.0
    feed(detector, rows, rng)
    worst = detector.guilty(1)[0]
    assert detector.drift_detected
    assert worst.name == "f4"
    assert worst.total_variation == pytest.approx(0.68, abs=0.12)
    assert worst.after > worst.before + 0.3
    assert worst.moved.endswith("and above")
    assert worst.broken == 0


def test_a_feed_gone_missing_is_told_as_broken() -> None:
    rng = np.random.default_rng(2)
    detector = InputDetector(profile_of(rng.normal(size=(1_000, 3))), 100_000, 0.1)
    rows = rng.normal(size=(160, 3))
    rows[:, 1] = np.nan
    feed(detector, rows, rng)
    worst = detector.guilty(1)[0]
    assert detector.drift_detected
    assert (worst.name, worst.moved) == ("f1", "missing")
    assert worst.broken > 0.9


def test_evidence_beyond_all_bounds_stays_a_number() -> None:
    rng = np.random.default_rng(9)
    detector = InputDetector(profile_of(rng.normal(size=(1_000, 20))), 100_000, 0.1)
    rows = np.full((4_000, 20), 1e9)
    with np.errstate(over="raise", invalid="raise"):
        for _ in range(3):
            feed(detector, rows, rng)
    assert detector.drift_detected
    assert np.isfinite(detector.evidence)


def test_a_constant_column_that_starts_to_move_is_seen() -> None:
    rng = np.random.default_rng(3)
    detector = InputDetector(profile_of(np.zeros((500, 2))), 100_000, 0.1)
    rows = np.zeros((200, 2))
    rows[:, 1] = rng.integers(0, 2, 200)
    feed(detector, rows, rng)
    assert detector.drift_detected
    assert detector.guilty(1)[0].name == "f1"


def test_predictions_of_another_mix_are_seen() -> None:
    rng = np.random.default_rng(4)
    rows, classes = rng.normal(size=(1_000, 2)), rng.integers(0, 5, 1_000)
    detector = InputDetector(profile_of(rows, classes), 100_000, 0.1)
    feed(detector, rng.normal(size=(320, 2)), rng, np.where(rng.random(320) < 0.6, 2, 0))
    assert detector.drift_detected
    assert detector.guilty(1)[0].name == "prediction"


def test_a_change_of_shape_that_no_fixed_bet_expects_is_learnt() -> None:
    rng = np.random.default_rng(5)
    detector = InputDetector(profile_of(rng.random((5_000, 1))), 100_000, 0.05)
    # Every second tenth of the range empties: neither place, spread nor any one bin moves much.
    rows = (np.floor(rng.random((2_000, 1)) * 5) * 2 + rng.random((2_000, 1))) / 10
    feed(detector, rows, rng)
    assert detector.drift_detected


def test_a_robust_bet_is_fair_all_over_its_ball() -> None:
    rng = np.random.default_rng(6)
    for _ in range(50):
        before, after = rng.dirichlet(np.ones(8)), rng.dirichlet(np.ones(8))
        radius = float(rng.uniform(0.01, 0.4))
        bet = robust_bet(after, before, radius)
        if total_variation(after, before) <= radius:
            assert np.all(bet == 1)
            continue
        # The worst distribution of the ball: mass from the least paid bins to the best paid.
        worst, left = before.copy(), radius
        for index in np.argsort(bet):
            taken = min(worst[index], left)
            worst[index] -= taken
            left -= taken
        worst[bet.argmax()] += radius - left
        assert worst @ bet == pytest.approx(1.0, abs=1e-9)
        assert after @ np.log(bet) > 0


def test_the_limit_on_a_bets_mean_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(17)
    truth, bets = np.array([0.5, 0.3, 0.2]), np.array([[0.5, 1.0, 3.0], [2.0, 1.0, 0.2]])
    limits = np.array(
        [highest_mean(bets, counts, np.log(20.0)) for counts in rng.multinomial(200, truth, 150)]
    )
    assert ((limits < bets @ truth).mean(axis=0) <= 0.05).all()
    assert highest_mean(bets, np.zeros(3), 1.0).tolist() == [3.0, 2.0]


def test_a_step_costs_at_least_what_its_rows_are_expected_to_pay() -> None:
    """Exactly so, by the moments of a Dirichlet distribution, wherever its prior lies."""
    rng = np.random.default_rng(18)
    counts = np.array([[40.0, 30.0, 20.0, 9.0, 1.0]])
    factors = rng.gamma(2.0, 0.5, size=(20, 5))
    portfolio = Portfolio(factors, np.zeros(20, np.int64), np.ones(20), np.full(20, np.inf))
    stakes = Stakes.of(portfolio, counts, 0.0)
    pool = np.array([[4.0, 3.0, 2.0, 1.0, 2.0]])
    naive_is_too_cheap = 0
    for m in (1, 2, 16, 80):
        rows = np.array([[[m, 0.0, 0.0, 0.0, 0.0]]])
        cost = m * np.log(factors[:, 0]) - stakes.gains(pool, 12, rows, [m])[0]
        for bin_of_prior in range(5):
            urn = (counts + pool)[0] + PRIOR * (np.arange(5) == bin_of_prior)
            expected = expected_product(urn, factors, m)
            assert (np.log(expected) <= cost + 1e-3).all()
            naive = m * np.log(factors @ urn / urn.sum())
            naive_is_too_cheap += int((np.log(expected) > naive).sum())
    assert naive_is_too_cheap > 200


def expected_product(urn: Floats, factors: Floats, m: int) -> Floats:
    """Of m rows from a Polya urn: m! / (A)_m times a complete homogeneous symmetric function."""
    powers = [(urn * factors**k).sum(axis=1) for k in range(1, m + 1)]
    symmetric = [np.ones(len(factors))]
    for size in range(1, m + 1):
        terms = [powers[k] * symmetric[size - 1 - k] for k in range(size)]
        symmetric.append(np.sum(terms, axis=0) / size)
    ratio = np.prod([(i + 1) / (urn.sum() + i) for i in range(m)])
    return np.asarray(symmetric[m] * ratio)


def test_a_change_that_the_rows_learn_as_it_comes_is_still_seen() -> None:
    rng = np.random.default_rng(19)
    detector = InputDetector(profile_of(rng.normal(size=(1_000, 1))), 10_000, 0.0)
    for step in range(400):
        feed(detector, rng.normal(step * 0.005, 1.0, size=(64, 1)), rng)
    assert detector.drift_detected


def test_the_confidence_limit_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    hits = rng.binomial(200, 0.3, size=20_000) / 200
    limit = np.log(20.0)
    assert (upper_bound(hits, 200, limit) < 0.3).mean() <= 0.05
    assert upper_bound(0.2, 0, limit) == 1


def test_rows_counted_elsewhere_are_the_same_evidence_however_they_were_split() -> None:
    rng = np.random.default_rng(4)
    profile = profile_of(rng.normal(size=(2_000, 3)))
    whole, summed = InputDetector(profile, 10_000, 0.05), InputDetector(profile, 10_000, 0.05)
    for size in rng.integers(1, 60, size=40):
        rows = rng.normal(0.5, 1.0, size=(size, 3))
        zeros = np.zeros(size)
        whole.update_counts(profile.counts(rows, zeros, zeros), size)
        cut = rng.integers(0, size + 1)
        parts = [
            profile.counts(one, zeros[: len(one)], zeros[: len(one)])
            for one in (rows[:cut], rows[cut:])
        ]
        summed.update_counts(parts[0] + parts[1], size)
    assert whole.drift_detected
    assert whole.to_json() == summed.to_json()
    with pytest.raises(InputError, match="do not fit"):
        whole.update_counts(np.zeros((2, 2)), 1)


def test_counts_of_small_batches_are_the_evidence_of_their_rows() -> None:
    rng = np.random.default_rng(8)
    profile = profile_of(rng.normal(size=(2_000, 2)))
    by_rows, by_counts = InputDetector(profile, 10_000, 0.05), InputDetector(profile, 10_000, 0.05)
    for _ in range(50):
        rows, zeros = rng.normal(0.4, 1.0, size=(8, 2)), np.zeros(8)
        by_rows.update(rows, zeros, zeros)
        by_counts.update_counts(profile.counts(rows, zeros, zeros), 8)
    assert by_rows.to_json() == by_counts.to_json()
