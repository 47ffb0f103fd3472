"""Version numbers: major.minor.patch, given by what changed, editable by a person.

| what changed against the version it is numbered after | number |
|---|---|
| learner, its options, its layers, or the inputs that callers send | major |
| the classes, or the data that it was trained on anew | minor |
| nothing of these: a refresh, or a retrain that goes on from its weights | patch |

MLflow counts versions; this number says what a caller has to expect of one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from homeostat.errors import InputError

Step = Literal["major", "minor", "patch"]

_NUMBER = re.compile(r"(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})")


@dataclass(frozen=True, order=True)
class Number:
    """A semantic version: 1.4.2."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The number that a text writes.

        Raises:
            InputError: it is not three whole numbers with dots between.
        """
        found = _NUMBER.fullmatch(text)
        if found is None:
            raise InputError(
                f"'{text[:40]}' is not a version number.",
                remedy="Write MAJOR.MINOR.PATCH, such as 2.0.1, without zeros in front.",
            )
        return cls(*map(int, found.groups()))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    def after(self, step: Step) -> Self:
        """The next number by one step; what stands right of it begins anew."""
        if step == "major":
            return replace(self, major=self.major + 1, minor=0, patch=0)
        if step == "minor":
            return replace(self, minor=self.minor + 1, patch=0)
        return replace(self, patch=self.patch + 1)


FIRST = Number(1, 0, 0)


@dataclass(frozen=True)
class Make:
    """What a version is made of, as far as its number says.

    Args:
        learner: Its reference.
        options: What the policy gives the learner.
        inputs: The names of the features.
        layers: Of names and kinds of the weights, without their widths: those follow from the
            options and the data.
        classes: In the order of the outputs; empty for a regression.
        data: Digest of the data set.
    """

    learner: str
    options: Mapping[str, Any]
    inputs: tuple[str, ...]
    layers: str
    classes: tuple[Any, ...]
    data: str


def step_between(before: Make, now: Make, *, goes_on: bool) -> Step:
    """How far a version's number is from the one it is numbered after.

    Args:
        before: What that one is made of.
        now: What the new one is made of.
        goes_on: Whether the new one was trained on from its weights.
    """
    if _shape(before) != _shape(now):
        return "major"
    if before.classes != now.classes:
        return "minor"
    return "patch" if goes_on or before.data == now.data else "minor"


def next_number(base: Number | None, step: Step, taken: Collection[Number]) -> Number:
    """The first free number by that step after `base`; 1.0.0 where there is none before."""
    number = FIRST if base is None else base.after(step)
    while number in taken:
        number = number.after("major" if base is None else step)
    return number


def _shape(make: Make) -> tuple[object, ...]:
    return make.learner, dict(make.options), make.inputs, make.layers
