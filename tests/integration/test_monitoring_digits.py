"""Handwriting: 64 correlated pixels, many of them nearly constant, and finite pools of rows."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import affine_transform
from sklearn.datasets import load_digits

from homeostat.schema import Feature
from monitoring import InputDetector, Profile

Floats = NDArray[np.float64]
FEATURES = [Feature(f"pixel {row},{column}") for row in range(8) for column in range(8)]


def slanted(images: Floats) -> Floats:
    """Each row of pixels shifted by -0.6 pixels against the row above it."""
    shear = np.array([[1.0, 0.0], [0.6, 1.0]])
    offset = [0.0, -0.6 * 3.5]
    pixels = [affine_transform(image, shear, offset, order=1) for image in images.reshape(-1, 8, 8)]
    return np.array(pixels).reshape(-1, 64)


@pytest.mark.parametrize(("size", "seed"), [(500, 0), (500, 1), (900, 2), (900, 3)])
def test_other_people_writing_is_no_drift_and_a_slant_is(size: int, seed: int) -> None:
    pixels, digits = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(pixels))
    held, pool = order[:size], order[size : size + 500]

    def confidence(n: int) -> Floats:
        return rng.beta(8, 1, n)

    profile = Profile.from_reference(
        FEATURES, "classification", pixels[held], digits[held], confidence(size), np.zeros(size)
    )
    detector = InputDetector(profile, budget=100_000, tolerance=0.1)
    for _ in range(100):
        rows = rng.choice(pool, 50)
        detector.update(pixels[rows], digits[rows], confidence(50))
    assert detector.rows == 5_000
    assert not detector.drift_detected
    assert detector.evidence < detector.threshold / 2

    bent = dict(zip(pool.tolist(), slanted(pixels[pool]), strict=True))
    needed = 0
    while not detector.drift_detected and needed < 2_000:
        rows = rng.choice(pool, 8)
        detector.update([bent[row] for row in rows.tolist()], digits[rows], confidence(8))
        needed += 8
    assert needed <= 100
    assert needed - 16 <= detector.since <= needed + 32
    assert all(feature.name.startswith("pixel") for feature in detector.guilty(5))
    assert detector.guilty(1)[0].total_variation > 0.2
