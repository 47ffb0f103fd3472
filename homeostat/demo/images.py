"""The demo's handwriting: scikit-learn's digits, and the same digits from a slanted hand.

The images are cut into parts so that no figure is flattered: what the first version trains on,
and held-out images of which one half is streamed while the product learns, the other only
after it has learnt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.data import Dataset, read_dataset, split

SIDE = 8
SLANT = -0.6  # pixels to the side for each row of the image


@dataclass(frozen=True)
class Images:
    """N images (N, 64), ink from 0 to 16, and the digit that each shows (N,)."""

    pixels: NDArray[np.float64]
    digits: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.pixels)

    def slanted(self) -> Images:
        """The same handwriting leaning to the left."""
        return Images(slant(self.pixels, SLANT), self.digits)

    def halves(self) -> tuple[Images, Images]:
        """Every second image, and the others."""
        return (
            Images(self.pixels[::2], self.digits[::2]),
            Images(self.pixels[1::2], self.digits[1::2]),
        )

    def draws(self, rng: np.random.Generator) -> Iterator[tuple[list[float], int]]:
        """Endless independent draws, as a stream of scans would bring them."""
        while True:
            index = int(rng.integers(len(self)))
            yield self.pixels[index].tolist(), int(self.digits[index])


def held_out(holdout: float, seed: int) -> Images:
    """The images that the pipeline will not train on, by the product's own split."""
    _, rest = split(read_dataset("builtin:digits", "label"), holdout, seed)
    return _images(rest)


def slant(pixels: NDArray[np.float64], by: float) -> NDArray[np.float64]:
    """Shear images sideways around their middle row, with linear interpolation.

    Args:
        pixels: (N, 64).
        by: Pixels of shift for each row away from the middle.
    """
    image = pixels.reshape(-1, SIDE, SIDE)
    columns = np.arange(SIDE, dtype=np.float64)
    out = np.empty_like(image)
    for row in range(SIDE):
        source = columns - ((SIDE - 1) / 2 - row) * by
        for index in range(len(image)):
            out[index, row] = np.interp(source, columns, image[index, row], left=0.0, right=0.0)
    return out.reshape(-1, SIDE * SIDE).round(3)


def _images(data: Dataset) -> Images:
    return Images(
        np.asarray(data.rows, dtype=np.float64).reshape(-1, SIDE * SIDE),
        np.asarray(data.labels, dtype=np.int64),
    )
