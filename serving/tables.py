"""Whole tables: what was sent as the bodies of many requests, and the answers as a table.

Arrow and Parquet that came from outside are read by another process (`serving.table_reader`);
here they are only written.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
from pyarrow import parquet

from homeostat.errors import InvalidRequest, LearnerError, TooLarge
from homeostat.schema import Kind, Named

MEDIA = {
    "application/vnd.apache.arrow.stream": "arrow",
    "application/vnd.apache.parquet": "parquet",
}
LINE_ROWS = 256  # answered at once, so that those who wait for one row do not wait long
READ_SECONDS = 60.0
_MEMORY = 2 * 1024**3  # bytes of addresses, most of them pyarrow's own libraries
_GROWTH = 16  # JSON may take so many bytes for each of the limit of a body
_READER = Path(__file__).with_name("table_reader.py")
_TYPES: dict[Kind, Any] = {
    "float64": pa.float64(),
    "float32": pa.float32(),
    "int64": pa.int64(),
    "int32": pa.int32(),
    "bool": pa.bool_(),
    "str": pa.string(),
}


class UnsupportedMedia(InvalidRequest):
    """A body, or an answer that is wanted, of a kind that the address does not know."""

    code = "unsupported-media"


def kind_of(media: str) -> str:
    """`arrow` or `parquet`.

    Raises:
        UnsupportedMedia: it is neither.
    """
    kind = MEDIA.get(media.partition(";")[0].strip().lower())
    if kind is None:
        raise UnsupportedMedia(
            f"'{media[:80]}' is not a kind of table that is known here.",
            remedy=f"Known: {', '.join(MEDIA)}.",
        )
    return kind


def wanted_kind(accept: str, sent: str) -> str:
    """The kind of the answer: the first that is accepted and known, else the one that was sent.

    Raises:
        UnsupportedMedia: nothing that is accepted is known.
    """
    accepted = [one.partition(";")[0].strip().lower() for one in accept.split(",") if one.strip()]
    if not accepted or "*/*" in accepted or "application/*" in accepted:
        return sent
    for one in accepted:
        if one in MEDIA:
            return MEDIA[one]
    return kind_of(accepted[0])


def read(
    body: bytes, kind: str, inputs: Sequence[Named], entity: str | None, limits: tuple[int, int]
) -> BinaryIO:
    """The rows of a table: a file whose lines are bodies of the predict route.

    Args:
        body: As it was sent.
        kind: `arrow` or `parquet`.
        inputs: What the model takes.
        entity: The column with whom each row is about.
        limits: The most rows, and the largest body.

    Raises:
        InvalidRequest: it is not what it says, or not of columns that rows can be made of.
        TooLarge: more rows than are taken.
    """
    most_rows, most_bytes = limits
    whole = len(inputs) == 1 and inputs[0].width is not None
    arguments = {
        "kind": kind,
        "max_rows": most_rows,
        "line_rows": LINE_ROWS,
        "entity": entity,
        "row": [inputs[0].name, inputs[0].width] if whole else None,
        "limits": {
            "RLIMIT_AS": _MEMORY,
            "RLIMIT_FSIZE": _GROWTH * most_bytes,
            "RLIMIT_CPU": int(READ_SECONDS),
            "RLIMIT_CORE": 0,
        },
    }
    lines = tempfile.TemporaryFile()  # noqa: SIM115 - it is the answer
    try:
        with tempfile.TemporaryFile() as given:
            given.write(body)
            given.seek(0)
            command = [sys.executable, "-I", str(_READER), json.dumps(arguments)]
            done = subprocess.run(
                command,
                stdin=given,
                stdout=lines,
                stderr=subprocess.PIPE,
                timeout=READ_SECONDS,
                check=False,
            )
        if done.returncode:
            raise _refusal(done.returncode, done.stderr)
    except subprocess.TimeoutExpired:
        lines.close()
        raise _refusal(0, b"") from None
    except BaseException:
        lines.close()
        raise
    lines.seek(0)
    return lines


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """The bodies, from the first on."""
    file.seek(0)
    for line in file:
        yield line.rstrip(b"\n")


def write(
    kind: str,
    predictions: Sequence[Mapping[str, Any]],
    outputs: Sequence[Named],
    said: Mapping[str, str],
) -> bytes:
    """Answers as a table, a row for each row that was sent, in order.

    Args:
        kind: `arrow` or `parquet`.
        predictions: With `id`, `version` and the outputs.
        outputs: What the version says.
        said: About all of them, for the table's metadata.

    Raises:
        LearnerError: the version said something else than its learner declares.
    """
    columns: dict[str, Any] = {"id": pa.array([one["id"] for one in predictions], pa.string())}
    for spec in outputs:
        values = [one.get(spec.name) for one in predictions]
        if spec.kind == "str":
            values = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
        try:
            columns[spec.name] = pa.array(values, _TYPES[spec.kind])
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise LearnerError(
                f"The learner declares an output '{spec.name}' of {spec.kind} and answers "
                f"otherwise: {error}.",
                remedy="Mend the learner's `outputs`.",
            ) from error
    columns["version"] = pa.array([one["version"] for one in predictions], pa.int64())
    table = pa.table(columns).replace_schema_metadata(dict(said))
    sink = io.BytesIO()
    if kind == "parquet":
        parquet.write_table(table, sink)
    else:
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    return sink.getvalue()


def _refusal(code: int, said: bytes) -> InvalidRequest | TooLarge:
    try:
        found = json.loads(said.decode().splitlines()[-1])
        message, remedy = str(found["message"]), str(found["remedy"])
        kind = TooLarge if found["code"] == TooLarge.code else InvalidRequest
    except (ValueError, LookupError, TypeError):
        # Killed at one of its limits, or by what it read.
        message = f"The table could not be read within the limits of time and memory ({code})."
        return InvalidRequest(message, remedy="Send a valid file, with fewer rows if it is large.")
    return kind(message, remedy=remedy)
