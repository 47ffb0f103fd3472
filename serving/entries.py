"""What the spool keeps of each batch, and how it becomes rows of the prediction log.

A request's body is kept as it came: parsing it a second time is the draining thread's work, not
the answering one's, and so is asking the standby.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from homeostat.errors import InvalidRequest, TooLarge
from registry.log import PredictionRecord
from serving.answering import Answer, Request
from serving.fleet import Split
from serving.runtime import Outputs

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Spooled(msgspec.Struct, array_like=True):
    """One answered request; outputs are little-endian float32 of `width` columns."""

    version: int
    arm: str
    body: bytes
    answers: bytes
    width: int
    outputs: bytes
    shadows: list[tuple[int, int, bytes]]

    @property
    def rows(self) -> int:
        """How many rows it had."""
        return len(self.outputs) // (4 * self.width) if self.width else 0


AS_FIRST = -1  # columns of rows that are those of the entry's first


class Unseen(msgspec.Struct, array_like=True):
    """What a version that answers unseen is to be asked of a batch.

    Args:
        version: The version.
        digest: Its files, so that no other version answers in its name.
        requests: Places of the requests in their entry.
        columns: D of `x`, or `AS_FIRST`.
        x: Their rows (N, D) as float32, where it encodes as the champion does.
    """

    version: int
    digest: str
    requests: list[int]
    columns: int
    x: bytes


class Entry(msgspec.Struct, array_like=True):
    """The answered requests of one batch: `at` in microseconds since 1970."""

    model: str
    generation: int
    at: int
    requests: list[Spooled]
    unseen: Unseen | None
    also: list[Unseen] = msgspec.field(default_factory=list)

    @property
    def asked(self) -> list[Unseen]:
        """All that is to be asked unseen."""
        return [self.unseen, *self.also] if self.unseen else []


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    rows: list[Any] | msgspec.UnsetType = msgspec.UNSET
    row: Any = msgspec.UNSET
    entity: str | list[str] | None = None


class _RawBody(msgspec.Struct):
    rows: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET
    row: msgspec.Raw = msgspec.Raw()
    entity: str | list[str] | None = None


_raw_decoder = msgspec.json.Decoder(_RawBody)
_answers_decoder = msgspec.json.Decoder(list[dict[str, Any]])
_body_decoder = msgspec.json.Decoder(_Body)
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


def parse_request(body: bytes, max_rows: int) -> Request:
    """The rows and entities of a predict body.

    Raises:
        InvalidRequest: not JSON, or not of the shape that the route takes.
        TooLarge: more rows than the gateway takes at once.
    """
    try:
        parsed = _body_decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        parsed = _parse_leniently(body, error)
    if (parsed.rows is msgspec.UNSET) == (parsed.row is msgspec.UNSET):
        raise InvalidRequest(
            "The body must have either 'rows' or 'row'.",
            remedy='Send {"rows": [...]} for many, {"row": ...} for one.',
        )
    rows = [parsed.row] if isinstance(parsed.rows, msgspec.UnsetType) else parsed.rows
    if not rows:
        raise InvalidRequest("'rows' is empty.", remedy="Send at least one row.")
    if len(rows) > max_rows:
        raise TooLarge(
            f"The request has {len(rows)} rows; at most {max_rows} are taken at once.",
            remedy="Send them in several requests, or raise max_rows in the settings.",
            limit=max_rows,
        )
    if isinstance(parsed.entity, list) and len(parsed.entity) != len(rows):
        raise InvalidRequest(
            f"There are {len(parsed.entity)} entities for {len(rows)} rows.",
            remedy="Send one entity for all rows, or one for each.",
        )
    return Request(rows, parsed.entity)


def _parse_leniently(body: bytes, cause: Exception) -> _Body:
    """Parse what Python writes for NaN and infinity, so that the row with it can be named."""
    try:
        return msgspec.convert(json.loads(body), _Body)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        text = "its values are nested too deep" if isinstance(cause, RecursionError) else str(cause)
        raise InvalidRequest(
            f"The body is not a request for predictions: {text}.",
            remedy='Send JSON: {"rows": [...]} or {"row": ...}, and "entity" if you like.',
        ) from None


def to_spooled(answer: Answer, body: bytes, answers: bytes) -> Spooled:
    """An answered request as the spool keeps it."""
    return Spooled(
        answer.loaded.version,
        answer.arm,
        body,
        answers,
        answer.outputs.shape[1],
        answer.outputs.tobytes(),
        [
            (version, outputs.shape[1], outputs.tobytes())
            for version, outputs in answer.shadows.items()
        ],
    )


def to_payload(
    split: Split, at: int, requests: list[Spooled], unseen: Sequence[Unseen] = ()
) -> bytes:
    """A batch as the spool keeps it."""
    first, also = (unseen[0], list(unseen[1:])) if unseen else (None, [])
    return _encoder.encode(Entry(split.model, split.generation, at, requests, first, also))


def read_entry(payload: bytes) -> Entry:
    """What `to_payload` made.

    Raises:
        msgspec.MsgspecError: it is something else.
    """
    return _decoder.decode(payload)


def to_records(entry: Entry, unseen: Mapping[int, Mapping[int, Outputs]]) -> list[PredictionRecord]:
    """A batch as rows of the prediction log; their rows are JSON as it came.

    Args:
        entry: The batch.
        unseen: Outputs of each version that answered unseen, by the place of the request.

    Raises:
        HomeostatError, msgspec.MsgspecError, ValueError: it was not written by `to_payload`.
    """
    at = _EPOCH + timedelta(microseconds=entry.at)
    model, generation = entry.model, entry.generation
    records: list[PredictionRecord] = []
    for place, request in enumerate(entry.requests):
        answers = _answers_decoder.decode(request.answers)
        rows, entity = _rows(request.body, len(answers))
        entities = entity if isinstance(entity, list) else [entity or ""] * len(answers)
        shadows = [(version, _outputs(blob, width)) for version, width, blob in request.shadows]
        shadows += [(version, given[place]) for version, given in unseen.items() if place in given]
        outputs = _outputs(request.outputs, request.width)
        for index, (row, said) in enumerate(zip(rows, answers, strict=True)):
            name, version = said.pop("id"), said.pop("version")
            beside = tuple([(other, given[index]) for other, given in shadows])
            records.append(
                PredictionRecord(
                    *(name, model, version, generation, request.arm, entities[index], at),
                    *(row, outputs[index], said, beside),
                )
            )
    return records


def _rows(body: bytes, count: int) -> tuple[Sequence[Any], str | list[str] | None]:
    """The rows of a body that was answered, and its entity; undecoded where that can be."""
    try:
        raw = _raw_decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        request = parse_request(body, max_rows=count)  # it holds NaN or the like
        return request.rows, request.entity
    return [raw.row] if isinstance(raw.rows, msgspec.UnsetType) else raw.rows, raw.entity


def _outputs(blob: bytes, width: int) -> Outputs:
    return np.frombuffer(blob, dtype=np.float32).reshape(-1, width)
