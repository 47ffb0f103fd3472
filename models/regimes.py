"""Held-out rows of every regime, frozen: what later versions must still be good at.

They are saved as safetensors plus JSON and read back as if an enemy had written them.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch

from homeostat.errors import DataError
from models.learner import Examples
from models.memory import others, whole_number
from models.rows import SCHEMA, checked, joined, read_rows, take, whole, write_rows
from models.stored import refuse

_REGIMES = "regimes"


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
            stays = others(rows, ids)
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


def _learnt(pairs: object) -> dict[int, float]:
    found: dict[int, float] = {}
    for pair in pairs if isinstance(pairs, list) else []:
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[1], float):
            raise refuse(f"{_REGIMES}.json has an accuracy that is none.")
        if not 0.0 <= pair[1] <= 1.0:
            raise refuse(f"{_REGIMES}.json has an accuracy of {pair[1]}.")
        found[whole_number(pair[0])] = pair[1]
    return found
