"""The versions in memory and how traffic is split between them.

A `Split` never changes; a swap puts another in its place, which is one assignment between two
batches. So a batch, and with it a request, sees one split only.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

import msgspec

from homeostat.errors import Unavailable, UnknownModel, UnknownVersion
from serving.runtime import Loaded

Phase = Literal["steady", "shadow", "canary"]


@dataclass(frozen=True)
class Split:
    """One model's routing with its versions loaded.

    Args:
        model: The model's name.
        generation: The number of the routing that this obeys.
        champion: Answers what is not given away.
        challenger: On trial, in shadow or canary.
        standby: The last champion, kept warm.
        phase: Of the rollout.
        canary_share: Of requests that the challenger answers in canary.
        standby_share: Of requests that the standby answers in shadow.
    """

    model: str
    generation: int
    champion: Loaded
    challenger: Loaded | None = None
    standby: Loaded | None = None
    phase: Phase = "steady"
    canary_share: float = 0.0
    standby_share: float = 1.0
    heads: Mapping[int, bytes] = field(init=False, repr=False)
    columns: int = field(init=False, repr=False)
    """How many numbers a row is that the champion takes as a plain list; 0: it takes none."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", self.champion.learner.row_size)
        heads = {loaded.version: self._head(loaded) for loaded in self.versions}
        object.__setattr__(self, "heads", MappingProxyType(heads))

    @property
    def versions(self) -> tuple[Loaded, ...]:
        """Champion, challenger, standby: those that are there."""
        present = (self.champion, self.challenger, self.standby)
        return tuple(loaded for loaded in present if loaded is not None)

    @property
    def answering(self) -> tuple[Loaded, ...]:
        """Those that answer callers: the champion, in canary the challenger too."""
        if self.phase == "canary" and self.challenger is not None:
            return self.champion, self.challenger
        return (self.champion,)

    def named(self, version: int) -> Loaded:
        """The version that a caller names, if it is one that answers.

        Raises:
            UnknownVersion: it is not.
        """
        for loaded in self.answering:
            if loaded.version == version:
                return loaded
        serving = ", ".join(str(loaded.version) for loaded in self.answering)
        raise UnknownVersion(
            f"Version {version} of '{self.model}' answers nobody now; {serving} does.",
            remedy="Name a version that serves, or none.",
            model=self.model,
            version=version,
        )

    @property
    def apart(self) -> bool:
        """Whether a version runs in a process of its own, and so may keep its caller waiting."""
        return any(loaded.apart for loaded in self.versions)

    def release(self, version: int) -> str:
        """The name of a version's time in this routing."""
        return f"{self.model}:{version}@g{self.generation}"

    def find(self, version: int) -> Loaded | None:
        """The loaded version of that number, if this split has it."""
        return next((loaded for loaded in self.versions if loaded.version == version), None)

    def _head(self, loaded: Loaded) -> bytes:
        # All of an answer but its reason and predictions is the same for each request of a release.
        head = msgspec.json.encode(
            {
                "model": self.model,
                "version": loaded.version,
                "release": self.release(loaded.version),
                "digest": loaded.digest,
                "generation": self.generation,
            }
        )
        return head[:-1] + b',"reason":'


def unknown_model(model: str, known: Sequence[str]) -> UnknownModel:
    """The error of a model that is not there, or not there for who asks."""
    return UnknownModel(
        f"There is no model '{model}' here; known: {', '.join(known) or 'none'}.",
        remedy="Use one of these names, or add the model to the settings.",
        model=model,
    )


class Fleet:
    """The present split of every model. Reading is free; a swap is one assignment.

    Args:
        models: The names that the settings know.
    """

    def __init__(self, models: tuple[str, ...]) -> None:
        self._models = models
        self._splits: dict[str, Split] = {}
        self._guard = threading.Lock()

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models of this installation."""
        return self._models

    def get(self, model: str) -> Split | None:
        """The split of a model, or none before its first version.

        Raises:
            UnknownModel: the settings have no such model.
        """
        split = self._splits.get(model)
        if split is None and model not in self._models:
            raise unknown_model(model, self._models)
        return split

    def columns(self, model: str) -> int:
        """How many numbers a row of a model is that is a plain list of them; 0: none is."""
        split = self._splits.get(model)
        return 0 if split is None else split.columns

    def serving(self, model: str) -> Split:
        """The split of a model.

        Raises:
            UnknownModel: the settings have no such model.
            Unavailable: no version of it is loaded.
        """
        split = self.get(model)
        if split is None:
            raise Unavailable(
                f"No version of '{model}' is loaded yet.",
                remedy="Train one: homeostat train " + model,
                model=model,
            )
        return split

    def swap(self, split: Split) -> bool:
        """Obey a split from the next batch on, unless a newer one is obeyed already."""
        with self._guard:
            present = self._splits.get(split.model)
            if present is not None and present.generation > split.generation:
                return False
            self._splits[split.model] = split
            return True

    def forget(self, model: str) -> None:
        """Let any generation follow: the ledger itself was put back to an earlier state.

        What serves goes on serving until then.
        """
        with self._guard:
            present = self._splits.get(model)
            if present is not None:
                self._splits[model] = replace(present, generation=0)

    def snapshot(self) -> dict[str, Split]:
        """All splits as they are now."""
        return dict(self._splits)
