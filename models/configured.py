"""Reading a learner's options and stored configuration, with errors that name the field."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeGuard

from homeostat.errors import ArtifactError, DataError, InvalidRow, SettingsError
from models.torch_learner import class_name


def refuse_unknown(options: Mapping[str, Any], known: Collection[str], learner: str) -> None:
    """Check the keys of a policy's `learner_config`.

    Raises:
        SettingsError: a key that the learner does not have, with the nearest that it has.
    """
    for key in options:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise SettingsError(
                f"The learner {learner} has no option '{key}'.{hint}",
                remedy=f"Its options: {', '.join(known)}.",
                option=key,
            )


def bad_option(learner: str, option: str, value: object, wanted: str) -> SettingsError:
    """The error of an option with a value that cannot be meant."""
    return SettingsError(
        f"The option '{option}' of the learner {learner} is {value!r}.",
        remedy=f"It must be {wanted}.",
        option=option,
    )


def bad_config(learner: str, reason: str) -> ArtifactError:
    """The error of a stored configuration that `config` could not have given."""
    return ArtifactError(
        f"The stored configuration of the learner {learner} is not one of its own: {reason}.",
        remedy="Fetch the version again, or train it anew.",
    )


def unlearnable(error: InvalidRow) -> DataError:
    """The error of a data set with a row that cannot be encoded."""
    return DataError(error.message, remedy=error.remedy, **error.fields)


def is_size(value: object, most: int, least: int = 1) -> TypeGuard[int]:
    """Whether a value is a whole number from `least` to `most`."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_texts(value: object) -> TypeGuard[Sequence[str]]:
    """Whether a value is a list of texts."""
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def is_classes(value: object, most: int) -> TypeGuard[Sequence[Any]]:
    """Whether a value is a list of two or more distinct JSON scalars."""
    return (
        isinstance(value, list | tuple)
        and 2 <= len(value) <= most
        and all(isinstance(item, str | int | float) for item in value)
        and len({_name(item) for item in value} - {""}) == len(value)
    )


def _name(value: object) -> str:
    try:
        return class_name(value)
    except ValueError:  # NaN names no class
        return ""
