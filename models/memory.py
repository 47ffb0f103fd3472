"""What is kept of every regime: rows to replay, and rows to be judged by.

Both are saved as safetensors plus JSON and read back as if an enemy had written them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from homeostat.errors import DataError
from models.learner import Examples
from models.rows import SCHEMA, checked, joined, read_rows, take, whole, write_rows
from models.stored import refuse

_NO_REGIMES = torch.zeros(0, dtype=torch.int64)
_MEMORY = "memory"
_REGIMES = "regimes"
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
    """

    def __init__(self, capacity: int, seed: int) -> None:
        if capacity < 1:
            raise DataError(
                f"A memory of {capacity} rows keeps nothing.",
                remedy="Set memory_rows to 1 or more.",
            )
        self.capacity = capacity
        self.seed = seed
        self._passed = 0
        self._seen: dict[Cell, int] = {}
        self._keys: NDArray[np.float64] = np.empty(0)
        self._kept: Examples | None = None

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
        together = examples if self._kept is None else joined(self._kept, examples)
        chosen = np.sort(_choose(_cells(together), keys, self.capacity))
        self._keys = keys[chosen]
        self._kept = take(together, torch.from_numpy(chosen))

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
        stays = _others(self._kept, ids)
        gone = len(self) - len(stays)
        left = set(stays.tolist())
        for place, cell in enumerate(_cells(self._kept)):
            if place not in left:
                self._seen[cell] -= 1
        self._keys = self._keys[stays.numpy()]
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
        return Examples(rows.x, rows.y, rows.ids, rows.regime, weight)

    def save(self, folder: Path) -> None:
        """Write memory.safetensors and memory.json."""
        rows = self._kept or Examples(torch.zeros(0, 1), torch.zeros(0), (), _NO_REGIMES)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"x": rows.x, "y": rows.y, "regime": rows.regime}
        tensors["key"] = torch.from_numpy(self._keys)
        seen = [[*cell, count] for cell, count in sorted(self._seen.items())]
        about = {
            "schema": SCHEMA,
            "capacity": self.capacity,
            "seed": self.seed,
            "passed": self._passed,
            "seen": seen,
            "ids": list(rows.ids),
        }
        write_rows(folder, _MEMORY, tensors, about)

    @classmethod
    def load(cls, folder: Path) -> Memory:
        """The memory that `save` wrote; adding to it goes on as if it had never been saved.

        Raises:
            ArtifactError: the files are missing or not such a memory.
        """
        tensors, about = read_rows(folder, _MEMORY, {"x", "y", "regime", "key"})
        capacity, seed, passed = (_whole(about.get(n)) for n in ("capacity", "seed", "passed"))
        if capacity < 1:
            raise refuse(f"{_MEMORY}.json has the capacity {capacity}.")
        memory = cls(capacity, seed)
        memory._passed = passed
        kept = checked(tensors, about.get("ids"), _MEMORY)
        memory._kept = kept if len(kept) else None
        memory._seen = _counts(about.get("seen"))
        keys = tensors["key"]
        if keys.dtype != torch.float64 or keys.shape != tensors["y"].shape:
            raise refuse(f"{_MEMORY}.safetensors has no key for each row.")
        memory._keys = keys.numpy()
        if not set(_cells(kept)) <= set(memory._seen) or memory.capacity < len(keys):
            raise refuse(f"{_MEMORY}.json does not fit the rows.")
        return memory


class Regimes:
    """Held-out rows of every regime, frozen: what later versions must still be good at.

    `learnt` has the accuracy on them of the version that learnt the regime, where it is known.
    """

    def __init__(self) -> None:
        self._sets: dict[int, Examples] = {}
        self.learnt: dict[int, float] = {}

    @property
    def numbers(self) -> tuple[int, ...]:
        """The regimes in order."""
        return tuple(sorted(self._sets))

    def add(self, number: int, examples: Examples) -> None:
        """Freeze the held-out rows of a regime.

        Raises:
            DataError: the regime has its rows already, or there is none, or they are of
                another shape or kind than those of the others.
        """
        if number in self._sets:
            raise DataError(
                f"The held-out rows of regime {number} are frozen.",
                remedy=f"Open regime {max(self._sets) + 1} for new rows.",
            )
        if not len(examples):
            raise DataError(f"Regime {number} has no held-out row.", remedy="Hold some out.")
        rows = whole(examples)
        rows = Examples(rows.x, rows.y, rows.ids, torch.full((len(rows),), number))
        for other in self._sets.values():
            joined(other, rows)  # refuses what does not fit
            break
        self._sets[number] = rows

    @property
    def ids(self) -> tuple[str, ...]:
        """The prediction of each held-out row; empty for rows of a data set."""
        return tuple(one for number in self.numbers for one in self._sets[number].ids)

    def forget(self, ids: Collection[str]) -> int:
        """Take the rows of these predictions out; how many they were.

        A regime of which nothing is left is gone: later versions are not judged by it.
        """
        before = len(self.ids)
        for number in self.numbers:
            rows = self._sets[number]
            stays = _others(rows, ids)
            if not len(stays):
                del self._sets[number]
                self.learnt.pop(number, None)
            elif len(stays) < len(rows):
                self._sets[number] = take(rows, stays)
        return before - len(self.ids)

    def get(self, number: int) -> Examples:
        """The held-out rows of a regime.

        Raises:
            DataError: there is no such regime.
        """
        if number not in self._sets:
            known = ", ".join(map(str, self.numbers)) or "none"
            raise DataError(f"There is no regime {number}.", remedy=f"Known: {known}.")
        return self._sets[number]

    def save(self, folder: Path) -> None:
        """Write regimes.safetensors and regimes.json.

        Raises:
            DataError: there is no regime.
        """
        if not self._sets:
            raise DataError("There is no regime to save.", remedy="Add one first.")
        folder.mkdir(parents=True, exist_ok=True)
        rows = self._sets[self.numbers[0]]
        for number in self.numbers[1:]:
            rows = joined(rows, self._sets[number])
        tensors = {"x": rows.x, "y": rows.y, "regime": rows.regime}
        learnt = [[number, accuracy] for number, accuracy in sorted(self.learnt.items())]
        about = {"schema": SCHEMA, "ids": list(rows.ids), "learnt": learnt}
        write_rows(folder, _REGIMES, tensors, about)

    @classmethod
    def load(cls, folder: Path) -> Regimes:
        """The regimes that `save` wrote.

        Raises:
            ArtifactError: the files are missing or not such regimes.
        """
        tensors, about = read_rows(folder, _REGIMES, {"x", "y", "regime"})
        rows = checked(tensors, about.get("ids"), _REGIMES)
        if not len(rows):
            raise refuse(f"{_REGIMES}.safetensors holds no row.")
        regimes = cls()
        for number in torch.unique(rows.regime).tolist():
            regimes._sets[number] = take(rows, torch.nonzero(rows.regime == number)[:, 0])
        regimes.learnt = _learnt(about.get("learnt", []))  # earlier releases wrote none
        return regimes


def _others(rows: Examples, ids: Collection[str]) -> torch.Tensor:
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
        regime, kind, count = map(_whole, item)
        counts[(regime, kind)] = count
    return counts


def _learnt(pairs: object) -> dict[int, float]:
    found: dict[int, float] = {}
    for pair in pairs if isinstance(pairs, list) else []:
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[1], float):
            raise refuse(f"{_REGIMES}.json has an accuracy that is none.")
        if not 0.0 <= pair[1] <= 1.0:
            raise refuse(f"{_REGIMES}.json has an accuracy of {pair[1]}.")
        found[_whole(pair[0])] = pair[1]
    return found


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise refuse(f"There is {str(value)[:40]} in place of a whole number.")
    return value
