"""Short texts and their classes (intents, topics): hashed n-grams, or a frozen sentence encoder.

Shapes: N texts, B buckets (or the width of the frozen encoder), C classes; an encoded text is
`FIGURES` figures about it and its B hashed counts (or its vector).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from homeostat.errors import DataError, InvalidRow
from homeostat.schema import Feature, Named, Task
from models.columns import as_object, wrong_columns
from models.configured import (
    bad_config,
    bad_option,
    is_classes,
    is_size,
    is_texts,
    refuse_unknown,
    unlearnable,
)
from models.encoder import Encoder
from models.learner import Floats, Label, Row
from models.ngrams import hashed, signs, tokens
from models.sentences import SentenceEncoder, load_encoder
from models.torch_learner import find_classes, initialise

FIGURES = ("characters", "tokens", "share_not_ascii")
PROJECTIONS = 12
MAX_CLASSES = 10_000
MOST = {"buckets": 1 << 16, "hidden": 4096, "ngram": 16, "max_characters": 1_000_000}
_SIZES = ("buckets", "hidden", "ngram", "max_characters")
_OPTIONS = ("column", "ignore", "encoder", *_SIZES)
_FIELDS = {"classes", "column", "ignore", *_SIZES}
_OF_ENCODER = ("encoder", "encoder_digest")  # in the config where there is one
# A hashed text has length 1, so its single entries are small: they are brought to the size that
# the usual first weights and learning rates are made for.
_GAIN = 8.0


class TextNet(nn.Module):
    """Hashed counts through one hidden layer: (N, F + B) to (N, C) logits.

    The figures about a text are for the monitors; the net does not look at them.
    """

    def __init__(self, buckets: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(buckets, hidden), nn.ReLU(), nn.Linear(hidden, classes)
        )

    def forward(self, rows: Tensor) -> Tensor:
        """Logits (N, C) of rows (N, F + B)."""
        logits: Tensor = self.layers(_GAIN * rows[:, len(FIGURES) :])
        return logits


@dataclass(frozen=True)
class Text(Encoder):
    """A row is a text, or an object with it under the column's name.

    Nothing of the encoding is learnt from the data: versions that were trained on other data
    read each other's stored rows.

    Args:
        classes: What a text may mean.
        column: The name of the text's column.
        ignore: Columns that a row may have and that are not looked at.
        buckets: Width of the hashed vector.
        hidden: Width of the hidden layer.
        ngram: Characters of the longest n-gram within a word; below 3 there are whole words and
            pairs of them only.
        max_characters: Of the longest text that is taken.
        encoder: The folder of a frozen sentence encoder (`models.sentences`), whose vectors take
            the place of hashed counts; empty: none.
        encoder_digest: Of that encoder's files.
    """

    task: ClassVar[Task] = "classification"
    classes: tuple[Label, ...] = ()
    column: str = "text"
    ignore: tuple[str, ...] = ()
    buckets: int = 2048
    hidden: int = 256
    ngram: int = 4
    max_characters: int = 10_000
    encoder: str = ""
    encoder_digest: str = ""

    @cached_property
    def _frozen(self) -> SentenceEncoder | None:
        return load_encoder(self.encoder, self.encoder_digest) if self.encoder else None

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """Its length in characters and in words and signs, its share beyond ASCII, projections."""
        names = [*FIGURES, *(f"projection_{number}" for number in range(1, PROJECTIONS + 1))]
        return tuple(Feature(name) for name in names)

    @property
    def inputs(self) -> tuple[Named, ...]:
        """As `Learner.inputs`: one text."""
        return (Named(self.column, "str"),)

    def config(self) -> dict[str, Any]:
        """As `Learner.config`."""
        sizes = {name: getattr(self, name) for name in _SIZES}
        named = {"column": self.column, "ignore": list(self.ignore)}
        said = {"classes": list(self.classes), **named, **sizes}
        if self.encoder:
            said |= {"encoder": self.encoder, "encoder_digest": self.encoder_digest}
        return said

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """As `Learner.from_config`.

        Raises:
            WrongEncoder: its frozen encoder is not here, or is another.
        """
        frozen = {name: config[name] for name in _OF_ENCODER if name in config}
        if set(config) - set(frozen) != _FIELDS or len(frozen) == 1:
            raise bad_config("text", f"it has the fields {sorted(config)}")
        classes, column, ignore = config["classes"], config["column"], config["ignore"]
        if not is_classes(classes, MAX_CLASSES):
            raise bad_config("text", f"its classes are {str(classes)[:80]}")
        if not isinstance(column, str) or not is_texts(ignore):
            raise bad_config("text", "column or ignore is wrong")
        sizes = {name: config[name] for name in _SIZES}
        if wrong := [name for name in _SIZES if not is_size(sizes[name], MOST[name])]:
            raise bad_config("text", f"{wrong[0]} is {str(sizes[wrong[0]])[:80]}")
        if not all(isinstance(one, str) and one for one in frozen.values()):
            raise bad_config("text", "its encoder has no folder or no digest")
        learner = cls(tuple(classes), column, tuple(ignore), **sizes, **frozen)
        _ = learner._frozen  # what serves must not find out at its first row
        return learner

    @classmethod
    def from_data(
        cls, rows: Sequence[Row], labels: Sequence[Label], options: Mapping[str, Any]
    ) -> Self:
        """As `Learner.from_data`.

        Options: `column` (without it the only column that is not ignored), `ignore` (columns
        not to look at), `buckets` (2048), `hidden` (256), `ngram` (4), `max_characters`
        (10,000) and `encoder` (the folder of a frozen sentence encoder; then `buckets` and
        `ngram` say nothing).

        Raises:
            WrongEncoder: the encoder's folder cannot be used.
        """
        _check_options(options)
        if not rows:
            raise DataError("The data has no row.", remedy="Give labelled rows.")
        ignore = tuple(options.get("ignore", ()))
        column = _column(rows[0], options.get("column"), ignore)
        sizes = {name: options[name] for name in _SIZES if name in options}
        folder = str(options.get("encoder", ""))
        digest = load_encoder(folder).digest if folder else ""
        learner = cls(
            find_classes(labels), column, ignore, **sizes, encoder=folder, encoder_digest=digest
        )
        try:
            for index, row in enumerate(rows):
                learner._text(index, row)
        except InvalidRow as error:
            raise unlearnable(error) from error
        return learner

    def build(self, generator: torch.Generator) -> nn.Module:
        """As `Learner.build`."""
        return initialise(TextNet(self.represented, self.hidden, len(self.classes)), generator)

    def encode(self, rows: Sequence[Row]) -> Tensor:
        """As `Learner.encode`: (N, F + B), the figures of `FIGURES` first."""
        texts = [self._text(index, row) for index, row in enumerate(rows)]
        split = [tokens(text) for text in texts]
        batch = np.empty((len(rows), len(FIGURES) + self.represented), dtype=np.float32)
        for index, (text, words) in enumerate(zip(texts, split, strict=True)):
            batch[index, : len(FIGURES)] = len(text), len(words), _not_ascii(text)
        if self._frozen is not None:
            batch[:, len(FIGURES) :] = self._frozen.vectors(texts).numpy()
        else:
            batch[:, len(FIGURES) :] = hashed(split, self.buckets, self.ngram)
        return torch.from_numpy(batch)

    @property
    def represented(self) -> int:
        """As `Encoder.represented`."""
        return self.buckets if self._frozen is None else self._frozen.width

    def represent(self, batch: Tensor) -> Tensor:
        """As `Encoder.represent`: the hashed counts, or vectors (N, B)."""
        return _GAIN * batch[:, len(FIGURES) :]

    def observe(self, batch: Tensor) -> Floats:
        """As `Learner.observe`: the figures, and the counts or vectors by a dozen projections.

        The projections are fixed: they see that texts are about something else, or said
        otherwise, whichever of the buckets it moves.
        """
        rows = batch.numpy()
        projected = rows[:, len(FIGURES) :] @ _projections(self.represented)
        return np.hstack([rows[:, : len(FIGURES)], projected]).astype(np.float64)

    def _text(self, index: int, row: Row) -> str:
        """The text of a row, or the error that says what is wrong with it."""
        text = row
        if not isinstance(row, str):
            text = as_object(index, row, (self.column,), self.ignore)[self.column]
        if not isinstance(text, str):
            kind = "no text" if text is None else f"{type(text).__name__} where its text should be"
            raise self._refused(index, f"has {kind}")
        if len(text) > self.max_characters:
            raise self._refused(
                index, f"has {len(text):,} characters; the model takes {self.max_characters:,}"
            )
        if not text.strip():
            raise self._refused(index, "has an empty text")
        return text

    def _refused(self, index: int, reason: str) -> InvalidRow:
        return InvalidRow(
            f"Row {index} {reason}.",
            remedy=f"Send a text of 1 to {self.max_characters:,} characters as '{self.column}'.",
            row=index,
            column=self.column,
        )


@lru_cache(maxsize=8)
def _projections(buckets: int) -> NDArray[np.float32]:
    return signs(buckets, PROJECTIONS, "homeostat text projections 1")


def _not_ascii(text: str) -> float:
    return 0.0 if text.isascii() else sum(not sign.isascii() for sign in text) / len(text)


def _column(first: Row, given: str | None, ignore: Sequence[str]) -> str:
    """The name of the text's column."""
    if not isinstance(first, Mapping):
        return given or "text"
    names = [str(name) for name in first]
    if unknown := sorted({*ignore, *([given] if given else [])} - set(names)):
        raise wrong_columns(unknown, names)
    left = [name for name in names if name not in ignore]
    if given in ignore or not left:
        raise DataError("The text's column is ignored.", remedy="Mend the option `ignore`.")
    if len(left) > 1:
        raise DataError(
            f"The data has the columns {', '.join(left)}; a text is one column.",
            remedy="Name all others in the option `ignore`.",
            columns=left,
        )
    return left[0]


def _check_options(options: Mapping[str, Any]) -> None:
    refuse_unknown(options, _OPTIONS, "text")
    for name, value in options.items():
        if name == "column" and not (isinstance(value, str) and value):
            raise bad_option("text", name, value, "the name of a column")
        if name == "ignore" and not is_texts(value):
            raise bad_option("text", name, value, "a list of names of columns")
        if name == "encoder" and not (isinstance(value, str) and Path(value).is_absolute()):
            raise bad_option("text", name, value, "the whole path of a folder, from /")
        if name in _SIZES and not is_size(value, MOST[name]):
            raise bad_option("text", name, value, f"a whole number from 1 to {MOST[name]}")
