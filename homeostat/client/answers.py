"""What the gateway says, in types; an answer that is a problem document becomes its error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from homeostat.errors import HomeostatError, Unavailable

Json = dict[str, Any]

_PROBLEM_KEYS = ("type", "code", "title", "status", "detail", "remedy")
_OWN = ("id", "prediction", "confidence", "version")


@dataclass(frozen=True)
class Prediction:
    """The answer for one row.

    Args:
        id: What the truth is sent by.
        value: What the version predicts.
        confidence: As the version has it; None: it has none.
        version: Which one answered.
        more: What else the answer holds.
    """

    id: str
    value: Any
    confidence: float | None
    version: int
    more: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Labelled:
    """What became of one label: a `conflict` did not change the first, `unknown` is kept.

    `detail` says what is wrong with an invalid one.
    """

    id: str
    status: Literal["accepted", "duplicate", "conflict", "unknown", "revised", "invalid"]
    detail: str = ""


def predictions_of(said: Mapping[str, Any]) -> list[Prediction]:
    """The predictions of an answer, in the order of the rows."""
    return [
        Prediction(
            id=str(one["id"]),
            value=one.get("prediction"),
            confidence=one.get("confidence"),
            version=int(one["version"]),
            more={name: value for name, value in one.items() if name not in _OWN},
        )
        for one in said["predictions"]
    ]


def labelled_of(said: Mapping[str, Any]) -> list[Labelled]:
    """What became of each label, in the order in which they were sent."""
    return [
        Labelled(str(one["id"]), one["status"], str(one.get("detail", "")))
        for one in said["results"]
    ]


def error_of(document: Mapping[str, Any]) -> HomeostatError:
    """The error that a problem document tells of."""
    code = str(document.get("code", ""))
    kind = next((kind for kind in _kinds(HomeostatError) if kind.code == code), HomeostatError)
    fields = {key: value for key, value in document.items() if key not in _PROBLEM_KEYS}
    message = str(document.get("detail") or document.get("title") or "The gateway refused.")
    return kind(message, remedy=str(document.get("remedy", "")), **fields)


def checked(answer: httpx.Response) -> Json:
    """The JSON of an answer.

    Raises:
        HomeostatError: as the gateway answered; Unavailable where it is not our gateway's.
    """
    try:
        said = answer.json()
    except ValueError:
        said = None
    if isinstance(said, dict) and answer.is_success:
        return said
    if isinstance(said, dict) and "code" in said:
        raise error_of(said)
    raise Unavailable(
        f"{answer.url} answered {answer.status_code}, not as our gateway does.",
        remedy="See that gateway_port is our gateway's.",
    )


def _kinds(root: type[HomeostatError]) -> Iterator[type[HomeostatError]]:
    for kind in root.__subclasses__():
        yield kind
        yield from _kinds(kind)
