"""What is kept of every regime to be replayed: a sample, bounded by rows and by bytes.

It is saved as safetensors plus JSON and read back as if an enemy had written it; its rows stay in
the file until they are used, so that it may be larger than memory.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from homeostat.errors import DataError
from models.learner import Examples
from models.mapped import Parts, map_tensors, write_tensors
from models.rows import SCHEMA, checked, joined, only, read_about, take, whole
from models.scattered import Scattered
from models.stored import MAX_TENSOR_BYTES, canonical, refuse

_MEMORY = "memory"
_ID_BYTES = 40  # of a row's id in memory.json, about
# Of a memory: it is sealed in one folder with the frozen rows, and nobody would read a larger one.
LARGEST = MAX_TENSOR_BYTES * 3 // 4
_NONE = torch.zeros(0, dtype=torch.int64)
Cell = tuple[int, int]  # regime, class


class Memory:
    """A sample of all rows ever added, balanced over regimes and classes.

    Each cell, a class within a regime (or for a regression a regime), keeps a uniform sample
    of its own rows: a reservoir (Vitter 1985, *Random sampling with a reservoir*). In place of
    Vitter's replacement index every row draws a key u ~ U(0, 1) as it passes and its cell keeps
    the rows of the smallest keys, which is a uniform sample of any size. So a cell can shrink
    when others need room: with r(i) the rank of row i by key within its cell, the memory is

        the `capacity` first rows in the order of (r(i), u(i)).

    Small cells are kept whole and the others share the rest equally. A row left out could never
    come back, and keys depend on the seed and a row's place in the stream alone, so adding rows
    at once or in parts keeps the same ones.

    Args:
        capacity: Rows kept at most.
        seed: Of the keys.
        most_bytes: Of the kept rows, with their truths, ids and keys, at most; None, or more than
            `LARGEST`: that.
    """

    def __init__(self, capacity: int, seed: int, most_bytes: int | None = None) -> None:
        if capacity < 1:
            raise DataError(
                f"A memory of {capacity} rows keeps nothing.",
                remedy="Set memory_rows to 1 or more.",
            )
        self.capacity = capacity
        self.seed = seed
        self.most_bytes = most_bytes
        self._passed = 0
        self._seen: dict[Cell, int] = {}
        self._keys: NDArray[np.float64] = np.empty(0)
        self._kept: Examples | None = None  # without their x, which stays where it lies
        self._x = Scattered((), np.empty((0, 2), dtype=np.int64))

    def __len__(self) -> int:
        return 0 if self._kept is None else len(self._kept)

    @property
    def seen(self) -> int:
        """Rows that have passed, kept or not."""
        return sum(self._seen.values())

    def add(self, examples: Examples) -> None:
        """Let rows pass and keep a fair share; rows of unknown class (-1) are not taken.

        Raises:
            DataError: the rows are of another shape or kind than those kept.
        """
        examples = whole(examples)
        if not examples.y.is_floating_point():
            examples = take(examples, torch.nonzero(examples.y >= 0)[:, 0])
        if not len(examples):
            return
        bits = np.random.PCG64(self.seed).advance(self._passed)
        keys = np.concatenate([self._keys, np.random.Generator(bits).random(len(examples))])
        self._passed += len(examples)
        for cell in _cells(examples):
            self._seen[cell] = self._seen.get(cell, 0) + 1
        together, x = self._with(examples)
        chosen = np.sort(_choose(_cells(together), keys, self._room(x.parts[0], together.y)))
        self._keys = keys[chosen]
        self._kept, self._x = take(together, torch.from_numpy(chosen)), x.taken(chosen)

    def _with(self, examples: Examples) -> tuple[Examples, Scattered]:
        """The kept rows and these: all but their x, and where that lies."""
        x, light = examples.x, replace(examples, x=examples.x[:, :0])
        if self._kept is None:
            return light, Scattered.of(x)
        joined(replace(self._kept, x=self._x.parts[0][:0]), examples)  # refuses what does not fit
        return joined(self._kept, light), self._x.joined(x)

    def _room(self, x: torch.Tensor, y: torch.Tensor) -> int:
        """Rows that may be kept.

        Raises:
            DataError: one row alone is larger than what may be.
        """
        most = LARGEST if self.most_bytes is None else min(self.most_bytes, LARGEST)
        width = math.prod(x.shape[1:]) * x.element_size()
        of_row = width + y.element_size() + 2 * 8 + _ID_BYTES
        if most < of_row:
            raise DataError(
                f"A row has {of_row} bytes, and the memory may have {most}.",
                remedy=f"Set memory_bytes to room for some hundred rows, of {LARGEST} at most.",
            )
        return min(self.capacity, most // of_row)

    @property
    def ids(self) -> tuple[str, ...]:
        """The prediction of each kept row; empty for rows of a data set."""
        return () if self._kept is None else self._kept.ids

    def forget(self, ids: Collection[str]) -> int:
        """Take the rows of these predictions out; how many they were.

        What they stood for is counted no more. Rows that made room for them do not come back.
        """
        if self._kept is None:
            return 0
        stays = others(self._kept, ids)
        gone = len(self) - len(stays)
        left = set(stays.tolist())
        for place, cell in enumerate(_cells(self._kept)):
            if place not in left:
                self._seen[cell] -= 1
        self._keys = self._keys[stays.numpy()]
        self._x = self._x.taken(stays.numpy())
        self._kept = take(self._kept, stays) if len(stays) else None
        return gone

    def examples(self) -> Examples:
        """The kept rows in the order in which they passed, each with the rows it stands for.

        Raises:
            DataError: nothing was ever added.
        """
        if self._kept is None:
            raise DataError("The memory is empty.", remedy="Add rows first.")
        cells = _cells(self._kept)
        kept: dict[Cell, int] = {}
        for cell in cells:
            kept[cell] = kept.get(cell, 0) + 1
        weight = torch.tensor([self._seen[cell] / kept[cell] for cell in cells])
        rows = self._kept
        return Examples(self._x.together(), rows.y, rows.ids, rows.regime, weight)

    def save(self, folder: Path) -> None:
        """Write memory.safetensors and memory.json, a few rows at a time."""
        rows = self._kept or Examples(torch.zeros(0, 0), torch.zeros(0), (), _NONE)
        parts = Parts.of(torch.zeros(0, 1))
        if len(self):
            first = self._x.parts[0]
            parts = Parts(first.dtype, (len(self), *first.shape[1:]), self._x.chunks())
        folder.mkdir(parents=True, exist_ok=True)
        whole_ones = {"y": rows.y, "regime": rows.regime, "key": torch.from_numpy(self._keys)}
        tensors = {"x": parts, **{name: Parts.of(one) for name, one in whole_ones.items()}}
        write_tensors(folder / f"{_MEMORY}.safetensors", tensors)
        about: dict[str, Any] = {
            "schema": SCHEMA,
            "capacity": self.capacity,
            "seed": self.seed,
            "passed": self._passed,
            "seen": [[*cell, count] for cell, count in sorted(self._seen.items())],
            "ids": list(rows.ids),
        }
        if self.most_bytes is not None:
            about["most_bytes"] = self.most_bytes
        (folder / f"{_MEMORY}.json").write_bytes(canonical(about))

    @classmethod
    def load(cls, folder: Path) -> Memory:
        """The memory that `save` wrote; adding to it goes on as if it had never been saved.

        Raises:
            ArtifactError: the files are missing or not such a memory.
        """
        about = read_about(folder, _MEMORY)
        tensors = map_tensors(folder / f"{_MEMORY}.safetensors", MAX_TENSOR_BYTES)
        only(tensors, {"x", "y", "regime", "key"}, _MEMORY)
        numbers = (about.get(n) for n in ("capacity", "seed", "passed"))
        capacity, seed, passed = map(whole_number, numbers)
        if capacity < 1:
            raise refuse(f"{_MEMORY}.json has the capacity {capacity}.")
        most = about.get("most_bytes")
        memory = cls(capacity, seed, None if most is None else whole_number(most))
        memory._passed = passed
        kept = checked(tensors, about.get("ids"), _MEMORY)
        memory._x = Scattered.of(kept.x)
        light = replace(kept, x=kept.x[:, :0], y=kept.y.clone(), regime=kept.regime.clone())
        memory._kept = light if len(kept) else None
        memory._seen = _counts(about.get("seen"))
        keys = tensors["key"]
        if keys.dtype != torch.float64 or keys.shape != tensors["y"].shape:
            raise refuse(f"{_MEMORY}.safetensors has no key for each row.")
        memory._keys = keys.numpy().copy()
        if not set(_cells(kept)) <= set(memory._seen) or memory.capacity < len(keys):
            raise refuse(f"{_MEMORY}.json does not fit the rows.")
        return memory


def others(rows: Examples, ids: Collection[str]) -> torch.Tensor:
    """Places of the rows of other predictions; a row without an id is nobody's."""
    named = set(ids) - {""}
    places = [place for place, one in enumerate(rows.ids) if one not in named]
    return torch.tensor(places, dtype=torch.int64)


def _choose(cells: Sequence[Cell], keys: NDArray[np.float64], capacity: int) -> NDArray[np.int64]:
    """Indices of the rows that stay: the first in the order of (rank within the cell, key)."""
    passed: dict[Cell, int] = {}
    ranks = np.empty(len(keys), dtype=np.int64)
    for index in np.argsort(keys, kind="stable").tolist():
        ranks[index] = passed.get(cells[index], 0)
        passed[cells[index]] = int(ranks[index]) + 1
    return np.lexsort((keys, ranks))[:capacity].astype(np.int64)


def _cells(examples: Examples) -> list[Cell]:
    kinds = [0] * len(examples) if examples.y.is_floating_point() else examples.y.tolist()
    return list(zip(examples.regime.tolist(), kinds, strict=True))


def _counts(seen: object) -> dict[Cell, int]:
    counts: dict[Cell, int] = {}
    for item in seen if isinstance(seen, list) else []:
        if not isinstance(item, list) or len(item) != 3:
            raise refuse(f"{_MEMORY}.json has a count that is none.")
        regime, kind, count = map(whole_number, item)
        counts[(regime, kind)] = count
    return counts


def whole_number(value: object) -> int:
    """A whole number of a file that may be anybody's.

    Raises:
        SuspectArtifact: it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise refuse(f"There is {str(value)[:40]} in place of a whole number.")
    return value
