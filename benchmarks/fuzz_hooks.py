"""What schemathesis does not know by itself: bodies of tables, as bytes, some of them whole."""

from __future__ import annotations

import io

import pyarrow as pa
import schemathesis
from pyarrow import parquet

from benchmarks.gateway import ROW
from serving.tables import MEDIA


def _whole(kind: str) -> bytes:
    table, sink = pa.table({"pixels": [ROW, ROW]}), io.BytesIO()
    if kind == "parquet":
        parquet.write_table(table, sink)
    else:
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    return sink.getvalue()


def _register(media: str, whole: bytes) -> None:
    @schemathesis.serializer(media)
    def body(_: object, value: object) -> bytes:
        """Chance bytes as they are, or written over a part of a whole table."""
        given = value if isinstance(value, bytes) else str(value).encode()
        if len(given) % 2:
            return given
        return whole[: len(whole) // 2] + given + whole[len(whole) // 2 + len(given) :]


for _media, _kind in MEDIA.items():
    _register(_media, _whole(_kind))
