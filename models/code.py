"""Source text, byte by byte: a language model that says what comes next.

Shapes: N texts, T bytes of context, H bytes said, V bytes (256); an encoded text is its last T
bytes, `PAD` before the first.

A text is its own truth: each of its bytes is what came after those before. The label adds the byte
that came after its end. The loss of a row is one minus the share of bytes that were foretold, over
the second half of the context, where there is something to go by, and the label's first byte.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from homeostat.errors import DataError, InvalidLabel, InvalidRow
from homeostat.schema import Feature, Named, Task
from models.code_net import BYTES, NEXT, PAD, CodeNet
from models.columns import as_object
from models.configured import bad_config, bad_option, is_size, refuse_unknown, unlearnable
from models.learner import Examples, Floats, Label, Row
from models.torch_learner import TorchLearner, initialise

COLUMN = "text"
MOST = {"context": 2048, "width": 1024, "layers": 24, "horizon": 256}
MAX_CHARACTERS = 100_000
_LEAST = {"context": 4, "width": 16, "layers": 1, "horizon": 1}
_STEP = 16  # the width is a multiple of it
_IGNORED = -100
_RIGHT, _ASKED, _BITS, _FIRST, _CHANCE = range(5)  # columns of the outputs
_KINDS: dict[str, str] = {
    "lower": "abcdefghijklmnopqrstuvwxyz",
    "upper": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "digits": "0123456789",
    "spaces": " \t",
    "lines": "\n\r",
    "underscores": "_",
    "brackets": "()[]{}",
    "quotes": "'\"",
    "stops": ".,:;",
    "operators": "=+-*/%<>!&|^~@",
    "comments": "#",
}
_FEATURES = (*_KINDS, "not_ascii", "bytes")


@dataclass(frozen=True)
class Code(TorchLearner):
    """A row is a text, or an object with it as `text`; a label is the text that came after it.

    Nothing of the encoding is learnt from the data, so versions trained on other text read each
    other's stored rows. Rows are equally likely to be replayed: text has no classes.

    Args:
        context: Bytes of a text that are read, the last ones.
        width: Of the hidden states; a multiple of 16.
        layers: Blocks of attention.
        horizon: Bytes of an answer.
    """

    task: ClassVar[Task] = "regression"  # a loss in [0, 1], and no classes
    context: int = 64
    width: int = 64
    layers: int = 2
    horizon: int = 8

    @property
    def features(self) -> tuple[Feature, ...]:
        """The share of each kind of bytes, and how many there are."""
        return tuple(Feature(name) for name in _FEATURES)

    @property
    def inputs(self) -> tuple[Named, ...]:
        """As `Learner.inputs`: one text."""
        return (Named(COLUMN, "str"),)

    @property
    def outputs(self) -> tuple[Named, ...]:
        """As `Learner.outputs`."""
        figures = (Named("confidence", "float32"), Named("bits_per_byte", "float32"))
        return (Named("prediction", "str"), *figures)

    def config(self) -> dict[str, Any]:
        """As `Learner.config`."""
        return {name: getattr(self, name) for name in MOST}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """As `Learner.from_config`."""
        if set(config) != set(MOST):
            raise bad_config("code", f"it has the fields {sorted(config)}")
        if wrong := [name for name in MOST if not _fits(name, config[name])]:
            raise bad_config("code", f"{wrong[0]} is {str(config[wrong[0]])[:80]}")
        return cls(**config)

    @classmethod
    def from_data(
        cls, rows: Sequence[Row], labels: Sequence[Label], options: Mapping[str, Any]
    ) -> Self:
        """As `Learner.from_data`.

        Options: `context` (64), `width` (64), `layers` (2) and `horizon` (8).
        """
        refuse_unknown(options, tuple(MOST), "code")
        for name, value in options.items():
            if not _fits(name, value):
                multiple = f", a multiple of {_STEP}" if name == "width" else ""
                wanted = f"a whole number from {_LEAST[name]} to {MOST[name]}{multiple}"
                raise bad_option("code", name, value, wanted)
        if not rows:
            raise DataError("The data has no row.", remedy="Give texts with what came after.")
        learner = cls(**options)
        try:
            learner.encode(rows)
        except InvalidRow as error:
            raise unlearnable(error) from error
        try:
            learner.targets(labels)
        except InvalidLabel as error:
            raise DataError(error.message, remedy=error.remedy, **error.fields) from error
        return learner

    def build(self, generator: torch.Generator) -> nn.Module:
        """As `Learner.build`."""
        return initialise(CodeNet(self.width, self.layers), generator)

    def encode(self, rows: Sequence[Row]) -> Tensor:
        """As `Learner.encode`: (N, T), the text at the right."""
        batch = np.full((len(rows), self.context), PAD, dtype=np.float32)
        for index, row in enumerate(rows):
            read = self._bytes(index, row)
            batch[index, self.context - len(read) :] = np.frombuffer(read, np.uint8)
        return torch.from_numpy(batch)

    def targets(self, labels: Sequence[Label]) -> Tensor:
        """As `Learner.targets`: the first byte of each; a whole number is a byte itself."""
        return torch.tensor([_first(*each) for each in enumerate(labels)], dtype=torch.float32)

    def truths(self, y: Tensor) -> list[Label]:
        """As `Learner.truths`: bytes as numbers."""
        return [int(byte) for byte in y.tolist()]

    def predict(self, model: nn.Module, batch: Tensor) -> NDArray[np.float32]:
        """As `Learner.predict`: what was foretold of the row itself, and what comes next.

        (N, 3 + 2 H): bytes foretold, of how many, mean bits for each; then each byte that follows
        beside its chance.
        """
        if model.training:
            model.eval()
        assert isinstance(model, CodeNet)
        with torch.inference_mode():
            logits, following, chances = model.go_on(batch, self.horizon)
            first = self.context // 2
            known = batch[:, first:].long()
            said = logits[:, first - 1 : -1]
            real = known < PAD
            right = ((said.argmax(2) == known) & real).sum(1)
            nats = functional.cross_entropy(
                said.transpose(1, 2), known.masked_fill(~real, _IGNORED), reduction="none"
            )
            bits = nats.sum(1) / real.sum(1).clamp(min=1) / math.log(2.0)
            next_bytes = torch.stack([following.float(), chances], 2).flatten(1)
            figures = torch.stack([right.float(), real.sum(1).float(), bits], 1)
        return torch.cat([figures, next_bytes], 1).numpy()

    def answers(self, outputs: NDArray[np.float32]) -> list[dict[str, Any]]:
        """As `Learner.answers`: the bytes that follow as text, the chance of the first.

        `bits_per_byte` is what the model needs for the text that was sent, in its second half.
        """
        said = outputs[:, _FIRST::2].astype(np.uint8)
        return [
            {
                "prediction": row.tobytes().decode("utf-8", "replace"),
                "confidence": float(chance),
                "bits_per_byte": float(bits),
            }
            for row, chance, bits in zip(said, outputs[:, _CHANCE], outputs[:, _BITS], strict=True)
        ]

    def score(self, outputs: NDArray[np.float32], labels: Sequence[Label]) -> Floats:
        """As `Learner.score`: 1 minus the share of bytes foretold, the label's first too."""
        right = outputs[:, _RIGHT] + (outputs[:, _FIRST] == self.targets(labels).numpy())
        return np.asarray(1.0 - right / (outputs[:, _ASKED] + 1.0), dtype=np.float64)

    def measures(self, outputs: NDArray[np.float32]) -> dict[str, float]:
        """As `Learner.measures`: bits per byte over all bytes that were asked for."""
        asked = outputs[:, _ASKED].astype(np.float64)
        total = float((asked * outputs[:, _BITS]).sum())
        return {"bits_per_byte": total / max(1.0, float(asked.sum()))}

    def observe(self, batch: Tensor) -> Floats:
        """As `Learner.observe`: shares of the kinds of bytes."""
        kinds = _KIND_OF[batch.long().numpy()]  # (N, T), -1 where there is no byte
        counts = np.stack([(kinds == kind).sum(1) for kind in range(len(_FEATURES) - 1)], 1)
        total = (kinds >= 0).sum(1)
        shares = counts / np.maximum(total, 1)[:, None]
        return np.hstack([shares, total[:, None]]).astype(np.float64)

    def confidence(self, outputs: NDArray[np.float32]) -> Floats:
        """As `Learner.confidence`: the chance of the first byte that follows."""
        return np.asarray(outputs[:, _CHANCE], dtype=np.float64)

    def predicted(self, outputs: NDArray[np.float32]) -> Floats:
        """As `Learner.predicted`: the first byte that follows."""
        return np.asarray(outputs[:, _FIRST], dtype=np.float64)

    def _loss(
        self,
        data: Examples,  # noqa: ARG002 - rows are equally likely: there is nothing to undo
        replay: Examples | None,  # noqa: ARG002 - the same
        replayed: float = 0.5,  # noqa: ARG002 - the same
    ) -> Callable[[Tensor, Tensor], Tensor]:
        return next_byte_loss

    def _distil(self, outputs: Tensor, before: Tensor) -> Tensor:
        """KL(before || now) of the next byte, mean over all positions."""
        new = functional.log_softmax(outputs[..., :BYTES], dim=-1).flatten(0, 1)
        old = functional.log_softmax(before[..., :BYTES], dim=-1).flatten(0, 1)
        return functional.kl_div(new, old, reduction="batchmean", log_target=True)

    def _bytes(self, index: int, row: Row) -> bytes:
        """The last bytes of a row's text, or the error that says what is wrong with it."""
        text = row if isinstance(row, str) else as_object(index, row, (COLUMN,), ())[COLUMN]
        if not isinstance(text, str):
            raise _refused(index, f"has {type(text).__name__} where its text should be")
        if not 0 < len(text) <= MAX_CHARACTERS:
            raise _refused(index, f"has {len(text):,} characters")
        try:
            return text[-self.context :].encode()[-self.context :]
        except UnicodeEncodeError as error:
            raise _refused(index, "has half of a character pair, which is no text") from error


def next_byte_loss(outputs: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy in nats of outputs (B, T, V + 1) and the byte after each row (B,)."""
    truth = outputs[..., BYTES].detach().long()
    last = truth == int(NEXT)
    truth = torch.where(last, y.long()[:, None], truth)
    truth = truth.masked_fill(truth == PAD, _IGNORED)
    logits = outputs[..., :BYTES].flatten(0, 1)
    return functional.cross_entropy(logits, truth.flatten(), ignore_index=_IGNORED)


def _kinds() -> NDArray[np.int64]:
    """The kind of each byte and of `PAD`, (V + 1,); -1 is none."""
    other = len(_KINDS)
    kinds = np.full(BYTES + 1, -1, dtype=np.int64)
    kinds[128:BYTES] = other
    for number, signs in enumerate(_KINDS.values()):
        kinds[np.frombuffer(signs.encode(), np.uint8)] = number
    rest = (kinds < 0) & (np.arange(BYTES + 1) < PAD)
    kinds[rest] = other + 1  # a byte of no named kind: it counts as one of the text
    return kinds


_KIND_OF = _kinds()


def _first(index: int, label: Label) -> float:
    """The byte that a label begins with."""
    if isinstance(label, str) and label:
        try:
            return float(label[0].encode()[0])
        except UnicodeEncodeError:
            pass
    whole = isinstance(label, int | float | np.number) and not isinstance(label, bool)
    if whole and 0 <= label < BYTES and label == int(label):
        return float(label)
    raise InvalidLabel(
        f"The label of row {index} is {str(label)[:40]!r}, which no text goes on with.",
        remedy="Send the text that came after, one character or more, or its first byte.",
        row=index,
    )


def _fits(name: str, value: object) -> bool:
    fits = is_size(value, MOST[name], _LEAST[name])
    return fits and (name != "width" or value % _STEP == 0)  # type: ignore[operator]  # it is whole


def _refused(index: int, reason: str) -> InvalidRow:
    return InvalidRow(
        f"Row {index} {reason}.",
        remedy=f"Send a text of 1 to {MAX_CHARACTERS:,} characters as '{COLUMN}'.",
        row=index,
        column=COLUMN,
    )
