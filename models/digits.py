"""Handwritten digits: 8x8 images of ink from 0 to 16, and a small convolutional net or perceptron.

Shapes: N images, C classes; an encoded image is its 64 pixels row by row, as sent.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from homeostat.errors import InvalidRow
from homeostat.schema import Feature, Named, Task
from models.configured import (
    bad_config,
    bad_option,
    is_classes,
    is_size,
    refuse_unknown,
    unlearnable,
)
from models.encoder import Encoder
from models.learner import Label, Row
from models.plain import Plain, perceptron
from models.torch_learner import find_classes, initialise

SIDE = 8
PIXELS = SIDE * SIDE
MAX_INK = 16.0
MAX_WIDTH = 4096
MAX_CLASSES = 1000
_LEAST = {"channels": 0, "hidden": 1}
_FEATURES = tuple(Feature(f"pixel_{row}_{column}") for row in range(SIDE) for column in range(SIDE))


class DigitsNet(nn.Module):
    """Two convolutions, a pool and two linear layers: (N, 64) pixels to (N, C) logits.

    Without channels the two linear layers alone: a perceptron.
    """

    def __init__(self, classes: int, channels: int, hidden: int) -> None:
        super().__init__()
        self.shape = (-1, 1, SIDE, SIDE) if channels else (-1, PIXELS)
        self.layers = nn.Sequential(
            *(_convolutions(channels) if channels else ()),
            nn.Linear(8 * channels or PIXELS, hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )
        # Convolutions of so few channels are a third quicker in this order, their training thrice.
        for weight in self.parameters():
            if weight.ndim == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (N, C) of pixels (N, 64)."""
        logits: Tensor = self.layers((pixels / MAX_INK).reshape(self.shape))
        return logits

    def plain(self) -> Plain | None:
        """As `models.plain.Plainly`: of a perceptron."""
        layers = perceptron(self.layers)
        return None if layers is None else lambda pixels: layers(pixels / MAX_INK)


def _convolutions(channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(1, channels, 3),  # (N, channels, 6, 6)
        nn.ReLU(),
        nn.Conv2d(channels, 2 * channels, 3),  # (N, 2 channels, 4, 4)
        nn.ReLU(),
        nn.MaxPool2d(2),  # (N, 2 channels, 2, 2)
        nn.Flatten(),
    ]


@dataclass(frozen=True)
class Digits(Encoder):
    """A row is 64 numbers from 0 to 16, or 8 lists of 8, or an object with them as `pixels`.

    Args:
        classes: What an image may show.
        channels: Of the first convolution; the second has twice as many. 0: no convolutions, a
            perceptron with one hidden layer.
        hidden: Width of the hidden linear layer.
    """

    task: ClassVar[Task] = "classification"
    classes: tuple[Label, ...] = tuple(range(10))
    channels: int = 16
    hidden: int = 64

    @property
    def features(self) -> tuple[Feature, ...]:
        """The 64 pixels."""
        return _FEATURES

    @property
    def inputs(self) -> tuple[Named, ...]:
        """As `Learner.inputs`: one list."""
        return (Named("pixels", "float32", PIXELS),)

    def config(self) -> dict[str, Any]:
        """As `Learner.config`."""
        return {
            "classes": list(self.classes),
            "channels": self.channels,
            "hidden": self.hidden,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """As `Learner.from_config`."""
        if set(config) != {"classes", "channels", "hidden"}:
            raise bad_config("digits", f"it has the fields {sorted(config)}")
        classes, channels, hidden = config["classes"], config["channels"], config["hidden"]
        if not is_classes(classes, MAX_CLASSES):
            raise bad_config("digits", f"its classes are {str(classes)[:80]}")
        if not is_size(channels, MAX_WIDTH, 0) or not is_size(hidden, MAX_WIDTH):
            raise bad_config("digits", f"channels are {channels!r} and hidden is {hidden!r}")
        return cls(tuple(classes), channels, hidden)

    @classmethod
    def from_data(
        cls, rows: Sequence[Row], labels: Sequence[Label], options: Mapping[str, Any]
    ) -> Self:
        """As `Learner.from_data`; options are `channels` and `hidden`."""
        refuse_unknown(options, tuple(_LEAST), "digits")
        for name, value in options.items():
            if not is_size(value, MAX_WIDTH, least := _LEAST[name]):
                wanted = f"a whole number from {least} to {MAX_WIDTH}"
                raise bad_option("digits", name, value, wanted)
        learner = cls(find_classes(labels), **options)
        try:
            learner.encode(rows)
        except InvalidRow as error:
            raise unlearnable(error) from error
        return learner

    def build(self, generator: torch.Generator) -> nn.Module:
        """As `Learner.build`."""
        return initialise(DigitsNet(len(self.classes), self.channels, self.hidden), generator)

    def encode(self, rows: Sequence[Row]) -> Tensor:
        """As `Learner.encode`; one conversion for the whole batch."""
        images = [row.get("pixels", row) if isinstance(row, dict) else row for row in rows]
        pixels = _batch(images)
        if pixels is None:
            pixels = np.array([_image(index, row) for index, row in enumerate(images)])
        return _inked(pixels.reshape(len(rows), PIXELS))

    @property
    def represented(self) -> int:
        """As `Encoder.represented`."""
        return PIXELS

    def represent(self, batch: Tensor) -> Tensor:
        """As `Encoder.represent`: ink from 0 to 1."""
        return batch / MAX_INK

    @property
    def grid(self) -> tuple[int, int]:
        """As `Encoder.grid`."""
        return SIDE, SIDE

    @property
    def row_size(self) -> int:
        """The pixels, as a plain list of numbers."""
        return PIXELS

    def encode_array(self, values: NDArray[Any]) -> Tensor:
        """As `Learner.encode_array`."""
        return _inked(values)


def _inked(values: NDArray[Any]) -> Tensor:
    # NaN compares false with everything, so this refuses it too.
    if not ((values >= 0) & (values <= MAX_INK)).all():
        raise _out_of_range(values)
    return torch.from_numpy(values.astype(np.float32))


def _batch(images: Sequence[Row]) -> NDArray[np.float64] | None:
    """The pixels of lists of 64 numbers, or None where some row is anything else.

    An array of one C type takes numbers alone. numpy would take text too, and make every element
    as wide as the longest: some megabytes of JSON would ask for terabytes.
    """
    flat = array("d")
    try:
        for image in images:
            if len(image) != PIXELS:
                return None
            flat.fromlist(image)
    except (TypeError, OverflowError):
        return None
    return np.frombuffer(flat)


def _image(index: int, row: object) -> NDArray[np.float64]:
    """One image, or the error that says what is wrong with it."""
    if not isinstance(row, list | tuple | np.ndarray):
        raise _bad_row(index, f"is {_short(row)}, not a list of {PIXELS} numbers", None)
    flat: list[object] = list(row)
    if any(isinstance(item, list | tuple | np.ndarray) for item in flat):
        lengths = [len(i) if isinstance(i, list | tuple | np.ndarray) else -1 for i in flat]
        if lengths != [SIDE] * SIDE:
            raise _bad_row(index, f"is not {SIDE} lists of {SIDE} numbers", None)
        flat = [item for line in row for item in line]
    if len(flat) != PIXELS:
        raise _bad_row(index, f"has {len(flat)} numbers, not {PIXELS}", None)
    for column, value in enumerate(flat):
        if not isinstance(value, int | float | np.number | np.bool_):
            raise _bad_row(index, f"has {_short(value)} at column {column}, not a number", column)
        if not 0 <= value <= MAX_INK:
            raise _bad_ink(index, column, value)
    return np.array([float(value) for value in flat])  # type: ignore[arg-type]  # all are numbers


def _out_of_range(pixels: NDArray[Any]) -> InvalidRow:
    row, column = np.argwhere(~((pixels >= 0) & (pixels <= MAX_INK)))[0].tolist()
    return _bad_ink(row, column, pixels[row, column].item())


def _bad_ink(row: int, column: int, value: object) -> InvalidRow:
    reason = f"has {_short(value)} at column {column}, outside 0 to {MAX_INK:.0f}"
    return _bad_row(row, reason, column)


def _bad_row(row: int, reason: str, column: int | None) -> InvalidRow:
    where = {} if column is None else {"column": column}
    return InvalidRow(
        f"Row {row} {reason}.",
        remedy=f"Send the {PIXELS} pixels of an {SIDE}x{SIDE} image, row by row.",
        row=row,
        **where,
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
