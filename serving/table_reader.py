"""Reads a table that a stranger sent, in a process of its own: `python table_reader.py ARGUMENTS`.

Parquet and Arrow are read by native code that trusts what lengths and counts say: a file of a few
bytes may ask for gigabytes, and a crafted one may crash its reader. So it is read here, within
limits that the kernel holds, and what comes out is JSON, a line for each so many rows. Nothing of
the gateway is imported: a start costs what pyarrow costs.

Standard input is the table and standard output the lines, both files. Exit code 3 is a refusal,
with a JSON object on standard error; anything else but 0 is a reader that broke.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterator
from typing import Any

os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # gives back what it frees
os.environ["OMP_NUM_THREADS"] = "1"

import pyarrow as pa
from pyarrow import parquet

REFUSED = 3
PLAIN = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_null,
)
LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


class Refusal(Exception):
    """The table cannot be taken; `code` is that of the error that says so."""

    def __init__(self, message: str, remedy: str, code: str = "invalid-request") -> None:
        super().__init__(message)
        self.said = {"code": code, "message": message, "remedy": remedy}


def main(arguments: dict[str, Any]) -> int:
    """Read, write, and say how it went."""
    for limit, most in arguments["limits"].items():
        resource.setrlimit(getattr(resource, limit), (most, most))
    # Two threads of its own would share one limit of address space and serve nothing.
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    try:
        write(arguments)
    except Refusal as refusal:
        said = refusal.said
    except (pa.ArrowMemoryError, MemoryError, OSError) as error:
        # A file too large for its limit is an OSError, a broken Parquet file too.
        most = "more memory or space than a table may take"
        said = Refusal(f"The table cannot be read: {_short(error, most)}", _WHOLE).said
    except (pa.ArrowException, ValueError, UnicodeError, RecursionError) as error:
        said = Refusal(f"The table cannot be read: {_short(error, 'no reason')}", _WHOLE).said
    else:
        return 0
    print(json.dumps(said), file=sys.stderr)
    return REFUSED


_WHOLE = "Send a whole and valid file of the Content-Type, with fewer rows if it is large."


def write(arguments: dict[str, Any]) -> None:
    """Write the lines of a table.

    Args:
        arguments: `kind` (`arrow` or `parquet`), `max_rows`, `line_rows`, `entity` (a column's
            name, or null) and `row` ([name, width] where a row is a list, or null: an object).
    """
    most, count = arguments["max_rows"], 0
    for batch in _batches(arguments["kind"], most, arguments["line_rows"]):
        count += batch.num_rows
        if count > most:
            raise _too_long(f"more than {most}", most)
        for start in range(0, batch.num_rows, arguments["line_rows"]):
            part = batch.slice(start, arguments["line_rows"])
            sys.stdout.write(json.dumps(_body(part, arguments), allow_nan=False) + "\n")
    if not count:
        raise Refusal("The table has no row.", "Send at least one.")
    sys.stdout.flush()


def _batches(kind: str, most: int, at_once: int) -> Iterator[Any]:
    if kind == "arrow":
        with pa.ipc.open_stream(sys.stdin.buffer) as stream:
            _check(stream.schema)
            for batch in stream:
                batch.validate(full=True)
                yield batch
        return
    # Asked first for what it says of itself, so that an honest file is refused for nothing.
    file = parquet.ParquetFile(sys.stdin.buffer, memory_map=False, pre_buffer=False)
    if file.metadata.num_rows > most:
        raise _too_long(str(file.metadata.num_rows), most)
    _check(file.schema_arrow)
    yield from file.iter_batches(batch_size=at_once, use_threads=False)


def _check(schema: Any) -> None:  # noqa: ANN401 - pyarrow's
    names = schema.names
    if len(set(names)) < len(names):
        raise Refusal("Two columns of the table have one name.", "Name each column once.")
    for field in schema:
        kind = field.type
        if any(is_list(kind) for is_list in LISTS):
            kind = kind.value_type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not any(is_plain(kind) for is_plain in PLAIN):
            raise Refusal(
                f"The column '{field.name[:80]}' is {str(field.type)[:80]}.",
                "Send numbers, truth values, text, or lists of them.",
            )


def _body(part: Any, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - pyarrow's
    columns = dict(zip(part.schema.names, (_values(one) for one in part.columns), strict=True))
    body: dict[str, Any] = {}
    if (entity := arguments["entity"]) is not None:
        if entity not in columns:
            raise Refusal(f"The table has no column '{entity[:80]}'.", "Mend 'entity'.")
        body["entity"] = ["" if one is None else str(one) for one in columns.pop(entity)]
    names, values = list(columns), list(columns.values())
    if arguments["row"] is None:
        body["rows"] = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
        return body
    name, width = arguments["row"]
    if names == [name]:
        body["rows"] = values[0]
    elif len(names) == width:
        body["rows"] = [list(row) for row in zip(*values, strict=True)]
    else:
        raise Refusal(
            f"The table has {len(names)} columns.",
            f"Send one column '{name}' of lists of {width}, or {width} columns.",
        )
    return body


def _values(column: Any) -> list[Any]:  # noqa: ANN401 - pyarrow's
    """As JSON has them: NaN, which it has not, is null, as a missing value is."""
    return [_plain(value) for value in column.to_pylist()]


def _plain(value: Any) -> Any:  # noqa: ANN401 - any plain value
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, float) and value != value:
        return None
    return value


def _too_long(count: str, most: int) -> Refusal:
    remedy = "Send it in parts, or raise max_batch_rows in the settings."
    return Refusal(f"The table has {count} rows; at most {most} are taken.", remedy, "too-large")


def _short(error: Exception, otherwise: str) -> str:
    return (" ".join(str(error).split())[:200] or otherwise).rstrip(".") + "."


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
