"""What strangers, broken clients and enemies send: each gets its 4xx, and the gateway serves on."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from registry import connect, find_predictions, sessions, transaction
from serving.problems import MEDIA_TYPE

if TYPE_CHECKING:
    from tests.integration.protocols.conftest import Server

AUTH = {"Authorization": "Bearer the-token"}
PREDICT = "/v1/models/digits/predict"
SHOP = "/v1/models/shop/predict"
INFER = "/v2/models/digits/infer"
TABLE = "/v1/models/digits/batch"
ARROW = {"Content-Type": "application/vnd.apache.arrow.stream"}
ROW = [0.0] * 64
GOOD = json.dumps({"row": ROW}).encode()
HEAD = b"POST /v1/models/digits/predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer the-token\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
# In one numpy array with numbers, each of them would be as wide as this: terabytes.
LONG = "x" * 2_000_000


@pytest.fixture(scope="module")
def connected(server: Server) -> Iterator[httpx.Client]:
    """One client for all: what it sets up for TLS takes longer than most tests."""
    with httpx.Client(
        base_url=f"http://{server.host}", headers=AUTH, trust_env=False, timeout=20
    ) as client:
        yield client


@pytest.fixture
def client(server: Server, connected: httpx.Client) -> Iterator[httpx.Client]:
    """A caller; whatever happened, the gateway answers the next as ever."""
    yield connected
    assert connected.post(PREDICT, content=GOOD).status_code == 200
    assert connected.get("/health/ready").status_code == 200
    meter = server.gateway.access.check(AUTH["Authorization"].encode()).meter
    assert meter.under_way == 0


def short(value: object) -> str:
    """As a test's name."""
    return repr(value)[:70]


def body(**values: Any) -> bytes:  # noqa: ANN401 - any JSON
    return json.dumps(values).encode()


@pytest.mark.parametrize(
    ("path", "content", "status", "code"),
    [
        (PREDICT, b"", 400, "invalid-request"),
        (PREDICT, b"null", 400, "invalid-request"),
        (PREDICT, b"[]", 400, "invalid-request"),
        (PREDICT, GOOD + b"x", 400, "invalid-request"),
        (PREDICT, b'{"row": "\xff"}', 400, "invalid-request"),
        (PREDICT, b'{"row": "\\ud800"}', 422, "invalid-row"),
        (PREDICT, b'{"row": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400, "invalid-request"),
        (PREDICT, b'{"row": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001, 400, "invalid-request"),
        (PREDICT, body(row=ROW, entity=5), 400, "invalid-request"),
        (PREDICT, body(row=ROW, entity=[["a"]]), 400, "invalid-request"),
        (PREDICT, body(rows={}), 400, "invalid-request"),
        (PREDICT, body(row=[float("nan")] * 64), 422, "invalid-row"),
        (PREDICT, body(row=[1e308] * 64), 422, "invalid-row"),
        (PREDICT, b'{"row": [' + b"1e400," * 63 + b"0]}", 422, "invalid-row"),
        (PREDICT, b'{"row": [' + b"9" * 400 + b",0" * 63 + b"]}", 422, "invalid-row"),
        (PREDICT, b'{"row": [' + b"9" * 9_000 + b",0" * 63 + b"]}", 400, "invalid-request"),
        (PREDICT, body(row=[-0.001] * 64), 422, "invalid-row"),
        (PREDICT, body(row=["0"] * 64), 422, "invalid-row"),
        (PREDICT, body(row=[None] * 64), 422, "invalid-row"),
        (PREDICT, body(row=[*ROW[1:], LONG]), 422, "invalid-row"),
        (PREDICT, body(rows=[ROW] * 4_000 + [[*ROW[1:], LONG]]), 422, "invalid-row"),
        (PREDICT, body(rows=[[*ROW, 0.0], ROW[1:]]), 422, "invalid-row"),
        (PREDICT, body(row={"pixels": {"pixels": ROW}}), 422, "invalid-row"),
        (PREDICT, body(rows=[[]] * 4_097), 413, "too-large"),
        (PREDICT, b" " * 9_000_000, 413, "too-large"),
        (SHOP, body(row={"size": 1e308, "colour": "red", "count": 1}), 422, "invalid-row"),
        (SHOP, body(row={"size": LONG, "colour": "red", "count": 1}), 422, "invalid-row"),
        (SHOP, body(rows=[[1, "red", 1]] * 4_000 + [[1, "red", LONG]]), 422, "invalid-row"),
        (SHOP, body(row={"size": 1, "colour": ["red"], "count": 1}), 422, "invalid-row"),
        (SHOP, body(row={"size": 1, "colour": "red", "count": 1, "": 1}), 422, "invalid-row"),
        (SHOP, body(row={"size": 1, "colour": "red"}), 422, "invalid-row"),
        (INFER, b"", 400, "invalid-request"),
        (INFER, GOOD, 400, "invalid-request"),
        (INFER, b" " * 9_000_000, 413, "too-large"),
        ("/v1/labels", b"", 400, "invalid-request"),
        ("/v1/labels", b'{"labels": [], "labels": []}', 400, "invalid-request"),
        ("/v1/labels", b'{"labels": [{"id": "a", "id": "b", "label": 1}]}', 400, "invalid-request"),
        ("/v1/labels", body(labels=[{"id": "", "label": 1}]), 400, "invalid-request"),
        ("/v1/labels", body(labels=[{"id": "a" * 201, "label": 1}]), 400, "invalid-request"),
        ("/v1/labels", body(labels=[{"id": "\x00", "label": 1}]), 404, "unknown-prediction"),
        ("/v1/labels", b'{"labels": [{"id": "a", "label": NaN}]}', 400, "invalid-request"),
        ("/v1/labels", b"[" * 100_000, 400, "invalid-request"),
        ("/v1/labels", body(labels=[{"id": "a", "label": 1}] * 4_097), 413, "too-large"),
        ("/v1/models/digits/promote", body(version=-1, reason="x"), 400, "invalid-request"),
        ("/v1/models/digits/overrides", body(version=2**64, reason="x"), 400, "invalid-request"),
        ("/v1/models/digits/promote", body(version=1e308, reason="x"), 400, "invalid-request"),
        ("/v1/models/digits/promote", body(version=True, reason="x"), 400, "invalid-request"),
        ("/v1/models/digits/promote", b'{"version": 1, "version": 2}', 400, "invalid-request"),
        ("/v1/models/digits/promote", body(version=1, reason=""), 400, "invalid-request"),
        ("/v1/models/digits/rollback", body(reason="x" * 2_001), 400, "invalid-request"),
    ],
    ids=short,
)
def test_a_bad_body_gets_its_own_answer(
    client: httpx.Client, path: str, content: bytes, status: int, code: str
) -> None:
    answer = client.post(path, content=content)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.json()["detail"]
    assert len(answer.content) < 2_000


@pytest.mark.parametrize(
    ("tensor", "content", "status"),
    [
        ({"shape": [2**62, 2**62]}, b"", 413),
        ({"shape": [2**32, 2**32, 2**32]}, b"\x00" * 256, 413),
        ({"shape": [10**30, 64]}, b"\x00" * 256, 413),
        ({"shape": [-1, 64]}, b"\x00" * 256, 400),
        ({"shape": [-1, -64]}, b"\x00" * 256, 400),
        ({"shape": [4_097, 64]}, b"", 413),
        ({"shape": [1, 64], "parameters": {"binary_data_size": 2**63}}, b"\x00" * 256, 400),
        ({"shape": [1, 64]}, b"\x00" * 255, 400),
        ({"shape": [1, 64]}, np.full(64, np.inf, "<f4").tobytes(), 422),
        ({"shape": [1, 64]}, np.full(64, np.nan, "<f4").tobytes(), 422),
        ({"shape": [1, 64], "datatype": "BYTES"}, b"\xff\xff\xff\xff" * 64, 400),
        ({"shape": [1, 64], "datatype": "BYTES"}, b"\x00" * 256, 422),
        ({"shape": [1, 64], "datatype": "FP16"}, b"\x00" * 256, 400),
    ],
    ids=short,
)
def test_bytes_that_are_not_what_they_say_get_their_answer(
    client: httpx.Client, tensor: dict[str, Any], content: bytes, status: int
) -> None:
    size = {"parameters": {"binary_data_size": len(content)}}
    head = body(inputs=[{"name": "pixels", "datatype": "FP32"} | size | tensor])
    answer = client.post(
        INFER,
        content=head + content,
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/models/digits/history?limit=-1", 400),
        ("GET", "/v1/models/digits/history?limit=99999999999999999999999", 400),
        ("GET", "/v1/models/digits/history?before=abc", 400),
        ("GET", "/v1/models/digits/history?before=9223372036854775808", 400),
        ("GET", "/v1/models/%00", 404),
        ("GET", "/v1/models/%ff%fe", 404),
        ("GET", "/v1/models/digits%2Fpredict", 405),
        ("GET", "/v1/models/..%2f..%2fetc%2fpasswd", 404),
        ("GET", f"/v1/models/{'a' * 10_000}", 404),
        ("POST", "/v1/models//predict", 404),
        ("POST", "/v1/models/a%2Fb/predict", 404),
        ("POST", "/v1/models/\N{SNOWMAN}/predict", 404),
        ("PUT", PREDICT, 405),
        ("POST", TABLE, 415),
        ("GET", f"/v2/models/digits/versions/{'9' * 5_000}", 404),
        ("GET", "/v2/models/digits/versions/\N{SUPERSCRIPT TWO}", 404),
    ],
)
def test_an_address_that_is_none_gets_its_answer(
    client: httpx.Client, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status, answer.text
    assert answer.json()["code"]
    assert answer.headers.get("allow") == ("POST" if status == 405 else None)


def test_a_key_that_is_given_twice_counts_as_given_last_in_answer_and_log(
    client: httpx.Client, server: Server
) -> None:
    other = [16.0] * 64
    twice = b'{"row": %s, "row": %s}' % (json.dumps(ROW).encode(), json.dumps(other).encode())
    said = client.post(PREDICT, content=twice).json()["predictions"][0]
    once = client.post(PREDICT, content=body(row=other)).json()["predictions"][0]
    assert said["confidence"] == once["confidence"]
    server.gateway.writer.drain()
    with transaction(sessions(connect(server.gateway.settings.database))) as session:
        assert find_predictions(session, [said["id"]])[said["id"]].row == other


def test_the_kind_of_content_is_not_asked_where_only_json_is_taken(client: httpx.Client) -> None:
    for kind in ("", "text/plain", "application/x-www-form-urlencoded", "a/b; charset=\xff"):
        sent = {"Content-Type": kind.encode("latin-1")}
        assert client.post(PREDICT, content=GOOD, headers=sent).status_code == 200  # type: ignore[arg-type] # bytes may be
    zipped = client.post(PREDICT, content=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    assert zipped.status_code == 400


def lengthy(value: bytes, content: bytes = GOOD) -> bytes:
    return HEAD + b"Content-Length: " + value + b"\r\n\r\n" + content


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50, [400]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400]),
        (b"GET /health/live HTTP/9.9\r\nHost: x\r\n\r\n", [400]),
        (b"NONSENSE /health/live HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
        (LIVE + b"X: a\x00b\r\n\r\n", [400]),
        (LIVE + b"Content-Length : 5\r\n\r\n", [400]),
        (b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
        (lengthy(b"-5"), [400]),
        (lengthy(b"abc"), [400]),
        (lengthy(b"9" * 30), [400]),
        (lengthy(b"99999999999"), [413]),
        (lengthy(b"5"), [400, 400]),
        (lengthy(b"%d" % (len(GOOD) + 5)), []),
        (lengthy(b"%d\r\nContent-Length: 5" % len(GOOD)), [400]),
        (lengthy(b"%d\r\nTransfer-Encoding: chunked" % len(GOOD)), [400]),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", [400]),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n" + GOOD, [400]),
        (HEAD + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"row', []),
        (HEAD.replace(b"the-token", b"\xff\xfe") + b"Content-Length: 0\r\n\r\n", [401]),
        (LIVE + b"X-Long: " + b"a" * 70_000 + b"\r\n\r\n", [431]),
        (LIVE + b"".join(b"X-%d: a\r\n" % n for n in range(20_000)) + b"\r\n", [431]),
        (LIVE + b"X-Endless: " + b"a" * 1_000_000, [431]),
        (lengthy(b"%d\r\nX-Long: " % len(GOOD) + b"a" * 70_000), [431]),
    ],
    ids=short,
)
def test_what_is_no_request_gets_its_answer_and_the_connection_ends(
    server: Server, client: httpx.Client, sent: bytes, statuses: list[int]
) -> None:
    del client  # whose end it is to see that the gateway serves on
    host, port = server.host.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as caller:
        try:
            caller.sendall(sent)
            caller.shutdown(socket.SHUT_WR)
        except OSError:
            assert statuses == [431]  # it is told before it has sent everything
        came = b""
        try:
            while part := caller.recv(65_536):
                came += part
        except ConnectionResetError:  # it closed with bytes unread, which may overtake the answer
            assert statuses == [431]
            return
    heads = [one.split(b"\r\n\r\n")[0] for one in came.split(b"HTTP/1.1 ")[1:]]
    assert [int(head[:3]) for head in heads] == statuses, came
    assert all(MEDIA_TYPE.encode() in head for head in heads), came
