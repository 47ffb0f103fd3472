"""Tables in and out: what rows become of them, and files that lie, grow or break their reader."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from pyarrow import parquet

from homeostat.errors import InvalidRequest, TooLarge
from homeostat.schema import Named
from registry import connect, find_predictions, sessions, transaction
from serving import table_route, tables
from serving.app import create_app
from serving.gateway import Gateway

if TYPE_CHECKING:
    from tests.integration.conftest import Station

AUTH = {"Authorization": "Bearer the-token"}
ARROW, PARQUET = tables.MEDIA
COLUMNS = (Named("size", "float64"), Named("colour", "str"))
LIMITS = (1_000, 1_000_000)
PATH = "/v1/models/digits/batch"


def as_arrow(table: Any, **options: Any) -> bytes:  # noqa: ANN401 - pyarrow's
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, **options) as stream:
        stream.write_table(table)
    return sink.getvalue()


def as_parquet(table: Any, **options: Any) -> bytes:  # noqa: ANN401 - pyarrow's
    sink = io.BytesIO()
    parquet.write_table(table, sink, **options)
    return sink.getvalue()


def rows_of(
    body: bytes,
    kind: str = "arrow",
    inputs: tuple[Named, ...] = COLUMNS,
    entity: str | None = None,
) -> dict[str, Any]:
    with tables.read(body, kind, inputs, entity, LIMITS) as file:
        lines = [json.loads(line) for line in tables.lines_of(file)]
    whole = {"rows": [row for line in lines for row in line["rows"]]}
    if entity is not None:
        whole["entity"] = [one for line in lines for one in line["entity"]]
    return whole


@pytest.fixture
def here(station: Callable[..., Station]) -> Station:
    made: Station = station(max_batch_rows=1_000, max_batch_bytes=1_000_000)
    made.serve(1)
    return made


@pytest.fixture
def gateway(here: Station) -> Gateway:
    return Gateway(here.settings)


@pytest.fixture
def client(gateway: Gateway) -> Iterator[TestClient]:
    with TestClient(create_app(gateway.settings, gateway), headers=AUTH) as client:
        yield client


def test_columns_are_objects_and_what_is_missing_is_null() -> None:
    table = pa.table(
        {
            "size": pa.array([1.5, float("nan"), None, 4], pa.float32()),
            "colour": pa.array(["red", None, "blue", "bl\u00fc"]).dictionary_encode(),
            "who": pa.array([1, 2, None, 4]),
        }
    )
    expected = {
        "rows": [
            {"size": 1.5, "colour": "red"},
            {"size": None, "colour": None},
            {"size": None, "colour": "blue"},
            {"size": 4.0, "colour": "bl\u00fc"},
        ],
        "entity": ["1", "2", "", "4"],
    }
    assert rows_of(as_arrow(table), entity="who") == expected
    assert rows_of(as_parquet(table), "parquet", entity="who") == expected


def test_a_row_that_is_a_list_comes_as_one_column_or_as_many() -> None:
    pair = (Named("pair", "float32", 2),)
    one = pa.table({"pair": pa.array([[1, 2], [3, 4]], pa.list_(pa.int8(), 2))})
    many = pa.table({"a": [1, 3], "b": [2, 4]})
    assert rows_of(as_arrow(one), inputs=pair)["rows"] == [[1, 2], [3, 4]]
    assert rows_of(as_parquet(many), "parquet", pair)["rows"] == [[1, 2], [3, 4]]


GOOD = pa.table({"size": [1.0] * 2_000, "colour": ["red"] * 2_000})
WHOLE = as_arrow(GOOD.slice(0, 9))
TALL = as_parquet(pa.table({"size": [1.0] * 900, "colour": ["x" * 500_000] * 900}))


@pytest.mark.parametrize(
    ("body", "kind", "word"),
    [
        (b"", "arrow", "cannot be read"),
        (b"", "parquet", "cannot be read"),
        (b"PAR1" * 100, "parquet", "cannot be read"),
        (WHOLE, "parquet", "cannot be read"),
        (WHOLE[:-40], "arrow", "cannot be read"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f" + WHOLE[8:], "arrow", "cannot be read"),
        (as_parquet(GOOD.slice(0, 9))[:-9] + b"\x00" * 9, "parquet", "cannot be read"),
        (as_arrow(GOOD.slice(0, 0)), "arrow", "no row"),
        (as_arrow(GOOD), "arrow", "more than 1000 rows"),
        (as_parquet(GOOD), "parquet", "2000 rows; at most 1000"),
        (TALL, "parquet", "memory or space|within the limits|cannot be read"),
        (as_arrow(pa.table({"size": [b"x"]})), "arrow", "'size' is binary"),
        (as_arrow(pa.table({"size": [{"a": 1}]})), "arrow", "'size' is struct"),
        (as_arrow(pa.table({"size": [[[1]]]})), "arrow", "'size' is list"),
        (as_arrow(pa.table([[1], [2]], names=["size", "size"])), "arrow", "one name"),
        (as_arrow(pa.table({"size": [float("inf")]})), "arrow", "cannot be read"),
    ],
)
def test_what_is_no_table_or_too_large_is_refused_by_a_process_of_its_own(
    body: bytes, kind: str, word: str
) -> None:
    """`TALL` is some kilobytes that are 450 MB of text; one length says that 2^55 bytes follow."""
    assert len(body) < LIMITS[1]
    with pytest.raises((InvalidRequest, TooLarge)) as caught:
        rows_of(body, kind)
    assert any(one in str(caught.value) for one in word.split("|")), caught.value


def images(count: int) -> Any:  # noqa: ANN401 - a table
    ink = np.arange(count * 64).reshape(count, 64) % 17
    return pa.table(
        {"pixels": list(ink.astype(np.float32)), "who": [f"u{n}" for n in range(count)]}
    )


def test_every_row_of_a_table_is_a_prediction_that_is_logged_and_watched(
    client: TestClient, gateway: Gateway, here: Station
) -> None:
    table = images(600).take(np.random.default_rng(0).permutation(600))  # near ones not alike
    rows = table["pixels"].to_pylist()
    asked = client.post(
        f"{PATH}?entity=who", content=as_arrow(table), headers={"Content-Type": ARROW}
    )
    assert (asked.status_code, asked.headers["content-type"]) == (200, ARROW)
    with pa.ipc.open_stream(asked.content) as stream:
        answer = stream.read_all()
    assert answer.schema.metadata == {b"model": b"digits", b"generations": b"1"}
    assert answer["prediction"].to_pylist() == here.says(1, rows)
    assert set(answer["version"].to_pylist()) == {1}
    gateway.writer.drain()
    ids = answer["id"].to_pylist()
    with transaction(sessions(connect(here.settings.database))) as session:
        logged = find_predictions(session, ids)
    assert [(logged[one].row, logged[one].entity) for one in ids] == [
        *zip(rows, table["who"].to_pylist(), strict=True)
    ]
    metrics = client.get("/metrics").text
    assert 'homeostat_predictions_total{arm="champion",model="digits",version="1"} 600.0' in metrics
    watch = gateway.watches["digits"]
    deadline = time.monotonic() + 20
    while sum(one.rows for one in watch.samples() if one.detector == "input-drift") != 600:
        assert time.monotonic() < deadline, [(s.detector, s.rows, s.value) for s in watch.samples()]
        time.sleep(0.02)
    both = {"Content-Type": PARQUET, "Accept": f"text/csv, {PARQUET}"}
    plain = table.drop_columns(["who"])
    again = client.post(PATH, content=as_parquet(plain), headers=both)
    found = parquet.read_table(io.BytesIO(again.content))
    assert found["prediction"].equals(answer["prediction"])


def test_a_bad_row_is_named_by_its_place_and_leaves_nothing_in_the_log(client: TestClient) -> None:
    ink = images(300)["pixels"].to_pylist()
    ink[299][5] = 99.0
    answer = client.post(
        PATH, content=as_arrow(pa.table({"pixels": ink})), headers={"Content-Type": ARROW}
    )
    assert (answer.status_code, answer.json()["code"], answer.json()["row"]) == (
        *(422, "invalid-row", 299),
    )
    assert answer.json()["detail"].startswith("Row 299 has 99.0 at column 5")
    assert "homeostat_predictions_total{" not in client.get("/metrics").text


def test_the_route_says_what_it_takes(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    body = as_arrow(images(1).drop_columns(["who"]))
    for headers in (
        {"Content-Type": "text/csv"},
        {"Content-Type": ""},
        {"Content-Type": ARROW, "Accept": "application/json"},
    ):
        answer = client.post(PATH, content=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-media")
    sent = {"Content-Type": f"{ARROW}; version=1"}
    assert client.post(PATH, content=body, headers=sent).status_code == 200
    assert client.post(f"{PATH}?entity=nobody", content=body, headers=sent).status_code == 400
    large = client.post(PATH, content=b"x" * 1_000_001, headers=sent)
    assert (large.status_code, large.json()["code"]) == (413, "too-large")
    missing = client.post("/v1/models/nope/batch", content=body, headers=sent)
    assert missing.json()["code"] == "unknown-model"
    monkeypatch.setattr(table_route, "AT_ONCE", 0)
    busy = client.post(PATH, content=body, headers=sent)
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "5")
