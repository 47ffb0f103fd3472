"""What the spool keeps of each request, and how it becomes rows of the prediction log.

The request's body is kept as it came: parsing it a second time is the draining thread's work,
not the answering one's.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from homeostat.errors import InvalidRequest, TooLarge
from registry.log import PredictionRecord
from serving.answering import Answer, Request
from serving.runtime import Outputs

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Entry(msgspec.Struct, array_like=True):
    """One answered request: `at` in microseconds since 1970, outputs as little-endian float32."""

    model: str
    version: int
    generation: int
    arm: str
    at: int
    body: bytes
    answers: bytes
    width: int
    outputs: bytes
    shadows: list[tuple[int, int, bytes]]


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    rows: list[Any] | msgspec.UnsetType = msgspec.UNSET
    row: Any = msgspec.UNSET
    entity: str | list[str] | None = None


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


def to_entry(answer: Answer, generation: int, at: int, body: bytes, answers: bytes) -> bytes:
    """An answered request as the spool keeps it."""
    return _encoder.encode(
        Entry(
            model=answer.loaded.model,
            version=answer.loaded.version,
            generation=generation,
            arm=answer.arm,
            at=at,
            body=body,
            answers=answers,
            width=answer.outputs.shape[1],
            outputs=answer.outputs.tobytes(),
            shadows=[
                (version, outputs.shape[1], outputs.tobytes())
                for version, outputs in answer.shadows.items()
            ],
        )
    )


def to_records(payload: bytes) -> list[PredictionRecord]:
    """A spooled request as rows of the prediction log."""
    entry = _decoder.decode(payload)
    answers: list[dict[str, Any]] = msgspec.json.decode(entry.answers)
    request = parse_request(entry.body, max_rows=len(answers))
    outputs = _outputs(entry.outputs, entry.width)
    shadows = [(version, _outputs(blob, width)) for version, width, blob in entry.shadows]
    entities = request.entity
    return [
        PredictionRecord(
            id=said.pop("id"),
            model=entry.model,
            version=said.pop("version"),
            generation=entry.generation,
            arm=entry.arm,
            entity=(entities[index] if isinstance(entities, list) else entities) or "",
            at=_EPOCH + timedelta(microseconds=entry.at),
            row=row,
            output=outputs[index],
            answer=said,
            shadows=tuple((version, given[index]) for version, given in shadows),
        )
        for index, (row, said) in enumerate(zip(request.rows, answers, strict=True))
    ]


def _outputs(blob: bytes, width: int) -> Outputs:
    return np.frombuffer(blob, dtype=np.float32).reshape(-1, width)
