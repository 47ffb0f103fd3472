"""Another learner's encoding, frozen, below a head that cannot forget: `models.ridge_head`.

Where rows are images, `models.random_filters` may stand between the two.

Shapes: N rows, D encoded columns, E represented columns, M projections, C classes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, NoReturn, Self

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from homeostat.errors import DataError, SettingsError
from homeostat.schema import Feature, Named, Task
from models.configured import bad_config, bad_option, is_size
from models.digits import Digits
from models.encoder import Encoder
from models.learner import Budget, Examples, FitReport, Floats, Label, Row
from models.random_filters import RandomFilters
from models.ridge_head import RidgeHead
from models.table import Table
from models.text import Text
from models.torch_learner import TorchLearner

# By name alone: what a stored version names must not decide which code is imported.
ENCODERS: Mapping[str, type[Encoder]] = MappingProxyType(
    {"digits": Digits, "table": Table, "text": Text}
)
PROJECTIONS = 1024
MAX_PROJECTIONS = 8192
MAX_FILTERS = 256  # as many features as projections at most


class PrototypeNet(nn.Module):
    """Logits (N, C) of encoded rows (N, D)."""

    def __init__(self, encoder: Encoder, projections: int, filters: int) -> None:
        super().__init__()
        width, self.filters = encoder.represented, None
        if filters:
            assert encoder.grid is not None  # `Prototypes` was asked
            self.filters = RandomFilters(encoder.grid, filters)
            width = self.filters.width
        self.head = RidgeHead(width, projections, len(encoder.classes))
        self._represent = encoder.represent

    def draw(self, generator: torch.Generator) -> None:
        """Draw what is never trained."""
        if self.filters is not None:
            self.filters.draw(generator)
        self.head.draw(generator)

    def represent(self, rows: Tensor) -> Tensor:
        """What the head reads: the encoding (N, E), or its filtered features."""
        found = self._represent(rows)
        return found if self.filters is None else self.filters(found)

    def forward(self, rows: Tensor) -> Tensor:
        """Logits (N, C)."""
        logits: Tensor = self.head(self.represent(rows))
        return logits


@dataclass(frozen=True)
class Prototypes(TorchLearner):
    """Rows, classes and monitors are the encoder's; a training counts rows in and solves once.

    A retrain needs no memory, keeps what was learnt exactly, and takes up new classes. What was
    once learnt weighs for ever: where the truth of the same rows turns round, use another learner.

    Args:
        encoder: The learner whose encoding and classes these are.
        projections: M; 0: none, the head is over the encoding itself.
        filters: Random filters between an image and the projections; 0: none.
    """

    task: ClassVar[Task] = "classification"
    encoder: Encoder
    projections: int = PROJECTIONS
    filters: int = 0

    @property
    def classes(self) -> tuple[Label, ...]:
        """The encoder's."""
        return self.encoder.classes

    @property
    def features(self) -> tuple[Feature, ...]:
        """The encoder's."""
        return self.encoder.features

    @property
    def inputs(self) -> tuple[Named, ...]:
        """The encoder's."""
        return self.encoder.inputs

    @property
    def row_size(self) -> int:
        """The encoder's."""
        return self.encoder.row_size

    def config(self) -> dict[str, Any]:
        """As `Learner.config`: the encoder's, its name, projections and filters beside it."""
        name = next(name for name, kind in ENCODERS.items() if type(self.encoder) is kind)
        said = {**self.encoder.config(), "of": name, "projections": self.projections}
        return said | {"filters": self.filters} if self.filters else said

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """As `Learner.from_config`."""
        rest = dict(config)
        name, projections = rest.pop("of", None), rest.pop("projections", None)
        filters = rest.pop("filters", 0)
        if name not in ENCODERS:
            raise bad_config("prototypes", f"its encoder is {str(name)[:80]}")
        if not is_size(projections, MAX_PROJECTIONS, 0):
            raise bad_config("prototypes", f"its projections are {str(projections)[:80]}")
        encoder = ENCODERS[name].from_config(rest)
        if encoder.task != "classification":
            raise bad_config("prototypes", f"its task is {encoder.task}")
        if not is_size(filters, MAX_FILTERS if encoder.grid else 0, 0):
            raise bad_config("prototypes", f"its filters are {str(filters)[:80]}")
        return cls(encoder, projections, filters)

    @classmethod
    def from_data(
        cls, rows: Sequence[Row], labels: Sequence[Label], options: Mapping[str, Any]
    ) -> Self:
        """As `Learner.from_data`.

        Options: `of` (`digits`, `table` or `text`: whose encoding), `projections` (1,024),
        `filters` (0; for images), and those of that learner.
        """
        rest = dict(options)
        name, projections = rest.pop("of", None), rest.pop("projections", PROJECTIONS)
        filters = rest.pop("filters", 0)
        if name not in ENCODERS:
            raise bad_option("prototypes", "of", name, f"one of {', '.join(ENCODERS)}")
        if not is_size(projections, MAX_PROJECTIONS, 0):
            wanted = f"a whole number from 0 to {MAX_PROJECTIONS}"
            raise bad_option("prototypes", "projections", projections, wanted)
        encoder = ENCODERS[name].from_data(rows, labels, rest)
        if encoder.task != "classification":
            raise DataError(
                "The labels are quantities, and prototypes are of classes.",
                remedy="Use the learner table, or set its task to classification.",
            )
        if not is_size(filters, MAX_FILTERS if encoder.grid else 0, 0):
            wanted = f"a whole number from 0 to {MAX_FILTERS}" if encoder.grid else "0: no images"
            raise bad_option("prototypes", "filters", filters, wanted)
        return cls(encoder, projections, filters)

    def build(self, generator: torch.Generator) -> nn.Module:
        """As `Learner.build`."""
        net = PrototypeNet(self.encoder, self.projections, self.filters)
        net.draw(generator)
        return net

    def encode(self, rows: Sequence[Row]) -> Tensor:
        """As the encoder does."""
        return self.encoder.encode(rows)

    def encode_array(self, values: NDArray[Any]) -> Tensor:
        """As the encoder does."""
        return self.encoder.encode_array(values)

    def observe(self, batch: Tensor) -> Floats:
        """As the encoder does."""
        return self.encoder.observe(batch)

    def fit(
        self,
        model: nn.Module,
        data: Examples,
        replay: Examples | None,  # noqa: ARG002 - its rows are in the sums already
        budget: Budget,  # noqa: ARG002 - one pass over the rows, whatever it allows
        generator: torch.Generator,
    ) -> FitReport:
        """Take the rows in, each once; replayed ones have been.

        Raises:
            DataError: no row has a class that the model has.
        """
        started = time.monotonic()
        known = self._known(data)
        if not len(known):
            raise DataError(
                f"None of the {len(data)} rows has a truth of a class that the model has.",
                remedy=f"Its classes: {', '.join(map(str, self.classes))}.",
            )
        assert isinstance(model, PrototypeNet)  # what `build` made
        found = model.represent(known.x)
        model.head.learn(found, known.y, generator)
        model.eval()
        loss = float(nn.functional.cross_entropy(model.head(found[:1024]), known.y[:1024]))
        seconds, read = time.monotonic() - started, len(known)
        return FitReport(1, 1, seconds, (loss,), "epochs", len(data) - read, rows_read=read)

    def fit_by(self, *_: object, **__: object) -> NoReturn:
        """None: nothing here follows a gradient.

        Raises:
            SettingsError: always.
        """
        raise SettingsError(
            "The learner prototypes is not trained by steps, and this strategy is made of them.",
            remedy='Set retrain.strategy = "prototypes" (or averaged-replay: it is the same here).',
        )
