"""What the spool keeps of each batch: the columns that the log keeps, and whom else to ask.

Whatever can wait is the draining thread's work, not the answering one's: so is asking the standby.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from homeostat.errors import InvalidRequest, TooLarge
from registry.blocks import Arm, Columns, id_bytes
from registry.json_text import to_json
from serving.answering import Answer, Request
from serving.answers import RESERVED, Told
from serving.fleet import Split
from serving.runtime import Loaded, Outputs

AS_FIRST = -1  # columns of rows that are those of the entry's first


class Unseen(msgspec.Struct, array_like=True):
    """What a version that answers unseen is to be asked of a batch.

    Args:
        version: The version.
        digest: Its files, so that no other version answers in its name.
        rows: Places of the rows in their entry; None: all.
        columns: D of `x`, or `AS_FIRST`; 0: it encodes the rows of the entry itself.
        x: These rows (N, D) as float32, where it encodes as the champion does.
    """

    version: int
    digest: str
    rows: list[int] | None
    columns: int = 0
    x: bytes = b""


class Entry(msgspec.Struct, array_like=True):
    """What one arm answered in one batch."""

    model: str
    generation: int
    version: int
    arm: str
    answered: Columns
    unseen: list[Unseen]

    @property
    def who(self) -> Arm:
        """Who answered."""
        return Arm(self.model, self.generation, self.version, self.arm)


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    rows: list[Any] | msgspec.UnsetType = msgspec.UNSET
    row: Any = msgspec.UNSET
    entity: str | list[str] | None = None


class _Numbers(msgspec.Struct, forbid_unknown_fields=True):
    rows: list[list[float]] | msgspec.UnsetType = msgspec.UNSET
    row: list[float] | msgspec.UnsetType = msgspec.UNSET
    entity: str | list[str] | None = None


_body_decoder = msgspec.json.Decoder(_Body)
_numbers_decoder = msgspec.json.Decoder(_Numbers)
_lines = msgspec.json.Encoder()
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


def parse_request(body: bytes, max_rows: int, columns: int = 0, max_elements: int = 0) -> Request:
    """The rows and entities of a predict body.

    Args:
        body: JSON.
        max_rows: The limit on its rows.
        columns: How many numbers a row is where the model takes plain lists of them; else 0.
        max_elements: Of the values of all its rows together; 0: as many as its bytes hold.

    Raises:
        InvalidRequest: not JSON, or not of the shape that the route takes.
        TooLarge: more rows, or more values in them, than the gateway takes at once.
    """
    numbers = _parse_numbers(body, max_rows, columns) if columns else None
    if numbers is not None and not 0 < max_elements < len(numbers.rows) * columns:
        return numbers
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
    # A value and what parts it from the next are two bytes: few bodies have to be counted.
    if 0 < 2 * max_elements < len(body) and (found := _elements(rows)) > max_elements:
        raise TooLarge(
            f"The request has {found} values in its rows; at most {max_elements} are taken.",
            remedy="Send fewer rows at a time, or raise max_elements in the settings.",
            limit=max_elements,
        )
    if isinstance(parsed.entity, list) and len(parsed.entity) != len(rows):
        raise InvalidRequest(
            f"There are {len(parsed.entity)} entities for {len(rows)} rows.",
            remedy="Send one entity for all rows, or one for each.",
        )
    return Request(rows, parsed.entity)


def _parse_numbers(body: bytes, max_rows: int, columns: int) -> Request | None:
    """A body whose rows are lists of so many numbers; None: it is another one, or wrong."""
    try:
        parsed = _numbers_decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    rows, row, entity = parsed.rows, parsed.row, parsed.entity
    if isinstance(rows, msgspec.UnsetType):
        if isinstance(row, msgspec.UnsetType) or len(row) != columns or isinstance(entity, list):
            return None
        return Request([row], entity, numbers=True)
    if not isinstance(row, msgspec.UnsetType) or not 0 < len(rows) <= max_rows:
        return None
    if isinstance(entity, list) and len(entity) != len(rows):
        return None
    if any(len(one) != columns for one in rows):
        return None
    return Request(rows, entity, numbers=True)


def _elements(rows: list[Any]) -> int:
    """How many values there are, however deep they are nested."""
    count, left = 0, list(rows)
    while left:
        value = left.pop()
        if isinstance(value, list):
            left += value
        elif isinstance(value, dict):
            left += value.values()
        else:
            count += 1
    return count


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


def to_payload(split: Split, at: int, told: Told, requests: Sequence[Request]) -> bytes:
    """A batch of plain numbers, all answered by the champion, as the spool keeps it."""
    values, exact = _narrow(told.values)
    answered = Columns(
        at,
        bytes.fromhex("".join(told.ids).replace("-", "")),
        _entities(requests),
        values.shape[1],
        exact,
        values.tobytes(),
        told.outputs.shape[1],
        told.outputs.tobytes(),
        told.lines,
        [],
    )
    unseen = [
        Unseen(loaded.version, loaded.digest, rows)
        for loaded, rows in told.asked
        if rows is None or rows
    ]
    return _encoder.encode(
        Entry(split.model, split.generation, told.loaded.version, "champion", answered, unseen)
    )


def to_payloads(
    split: Split,
    at: int,
    answers: Sequence[tuple[Request, Answer]],
    asked: Sequence[tuple[Loaded, Mapping[int, NDArray[np.float32] | None]]],
) -> list[bytes]:
    """A batch of any kind as the spool keeps it, an entry for each arm.

    Args:
        split: What answered.
        at: When, in microseconds since 1970.
        answers: Of the requests that were answered.
        asked: Who answers unseen, and what it is to be asked, by the place in `answers`: the
            encoded rows, where it encodes as the champion does.
    """
    arms: dict[tuple[int, str], list[int]] = {}
    for place, (_, one) in enumerate(answers):
        arms.setdefault((one.loaded.version, one.arm), []).append(place)
    payloads = []
    for (version, arm), places in arms.items():
        own = [answers[place] for place in places]
        sizes = [len(answers[place][1].ids) for place in places]
        unseen: list[Unseen] = []
        for loaded, x in asked:
            to_ask = _unseen(loaded, [x.get(place, _NOT) for place in places], sizes)
            if to_ask is None:
                continue
            if unseen and to_ask.x and (to_ask.x, to_ask.rows) == (unseen[0].x, unseen[0].rows):
                to_ask.columns, to_ask.x = AS_FIRST, b""  # the same rows are not kept twice
            unseen.append(to_ask)
        entry = Entry(split.model, split.generation, version, arm, _columns(at, own), unseen)
        payloads.append(_encoder.encode(entry))
    return payloads


def read_entry(payload: bytes) -> Entry:
    """What `to_payload` and `to_payloads` made.

    Raises:
        msgspec.MsgspecError: it is something else.
    """
    return _decoder.decode(payload)


_NOT = np.zeros((0, 0), np.float32)  # this very array: it is not asked


def _columns(at: int, answers: Sequence[tuple[Request, Answer]]) -> Columns:
    requests = [request for request, _ in answers]
    said = [
        {name: value for name, value in one.items() if name not in RESERVED}
        for _, answer in answers
        for one in answer.predictions
    ]
    ids = [id_bytes(name) for _, answer in answers for name in answer.ids]
    outputs = np.concatenate([answer.outputs for _, answer in answers])
    rows = [row for request in requests for row in request.rows]
    columns, exact, content = 0, False, "\n".join(map(to_json, rows)).encode()
    if all(request.numbers for request in requests) and len({len(row) for row in rows}) == 1:
        values, exact = _narrow(np.array(rows, np.float64))
        columns, content = values.shape[1], values.tobytes()
    return Columns(
        at,
        b"".join(name for name in ids if name is not None),
        _entities(requests),
        columns,
        exact,
        content,
        outputs.shape[1],
        outputs.tobytes(),
        _lines.encode_lines(said)[:-1],
        _shadows([answer for _, answer in answers]),
    )


def _entities(requests: Sequence[Request]) -> list[str]:
    """Whom rows are about; nothing where it is nobody."""
    if all(request.entity is None for request in requests):
        return []
    found: list[str] = []
    for request in requests:
        entity = request.entity
        found += entity if isinstance(entity, list) else [entity or ""] * len(request.rows)
    return found


def _narrow(
    values: NDArray[np.float64],
) -> tuple[NDArray[np.float32] | NDArray[np.float64], bool]:
    """Numbers as float32 where that loses nothing of any, and whether it would have."""
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    return (narrow, False) if bool((narrow == values).all()) else (values, True)


def _shadows(answers: Sequence[Answer]) -> list[tuple[int, int, bytes]]:
    """Outputs of those that answered unseen, with NaN where one did not."""
    widths = {version: out.shape[1] for one in answers for version, out in one.shadows.items()}
    found = []
    for version, width in sorted(widths.items()):
        parts: list[Outputs] = []
        for one in answers:
            given = one.shadows.get(version)
            parts.append(
                np.full((len(one.ids), width), np.nan, np.float32) if given is None else given
            )
        found.append((version, width, np.concatenate(parts).tobytes()))
    return found


def _unseen(
    loaded: Loaded, asked: Sequence[NDArray[np.float32] | None], sizes: Sequence[int]
) -> Unseen | None:
    """What a version is to be asked of one arm: by request its encoded rows, and how many."""
    rows: list[int] = []
    parts: list[NDArray[np.float32]] = []
    start, alike = 0, True
    for x, size in zip(asked, sizes, strict=True):
        if x is not _NOT:
            rows += range(start, start + size)
            alike = alike and x is not None
            parts += [] if x is None else [x]
        start += size
    if not rows:
        return None
    if not alike:
        return Unseen(loaded.version, loaded.digest, rows)
    encoded = np.concatenate(parts)
    return Unseen(loaded.version, loaded.digest, rows, encoded.shape[1], encoded.tobytes())
