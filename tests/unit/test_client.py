"""The light client: what it needs, what it asks, when it asks again."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from homeostat.client import AsyncClient, Client, Prediction, retrying
from homeostat.errors import InvalidRow, Unavailable

ROOT = Path(__file__).resolve().parents[2]
HTTPX = {"httpx", "httpcore", "h11", "anyio", "idna", "certifi", "typing_extensions", "sniffio"}


ALONE = """
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in {allowed} and top[0] != "_":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Nothing())
import homeostat.client
print(homeostat.client.Client)
"""


def test_it_needs_httpx_and_nothing_else() -> None:
    script = ALONE.format(allowed=sorted(HTTPX | {"homeostat"}))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("<class 'homeostat.client.callers.Client'>")


def answer(request: httpx.Request) -> httpx.Response:
    """As the gateway answers: the value of a row is its first number."""
    body = json.loads(request.content)
    if request.url.path == "/v1/labels":
        said = [{"id": one["id"], "status": "accepted"} for one in body["labels"]]
        return httpx.Response(200, json={"results": said})
    said = [
        {"id": f"id-{row[0]}", "prediction": row[0], "confidence": 0.5, "version": 3}
        for row in body["rows"]
    ]
    return httpx.Response(200, json={"version": 3, "predictions": said})


class Gateway:
    """Fails as it is told to, then answers; counts what it was asked."""

    def __init__(self, *failures: Exception | httpx.Response) -> None:
        self.failures = list(failures)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if not self.failures:
            return answer(request)
        failure = self.failures.pop(0)
        if isinstance(failure, Exception):
            raise failure
        return httpx.Response(failure.status_code, headers=failure.headers, content=failure.content)


@pytest.fixture(params=["at once", "async"])
def predict(request: pytest.FixtureRequest) -> Callable[..., list[Prediction]]:
    """Asks for one row, in either way."""

    def ask(
        gateway: Gateway,
        entity: str | None = None,
        version: int | None = None,
        again: bool = False,
    ) -> list[Prediction]:
        transport = httpx.MockTransport(gateway)
        if request.param == "at once":
            with Client("http://gateway", "t", transport=transport) as client:
                return client.predict("digits", [[7]], entity=entity, version=version, again=again)

        async def wait() -> list[Prediction]:
            async with AsyncClient("http://gateway", "t", transport=transport) as client:
                return await client.predict(
                    "digits", [[7]], entity=entity, version=version, again=again
                )

        return asyncio.run(wait())

    return ask


Predict = Callable[..., list[Prediction]]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_SECONDS", 0.001)


def test_a_prediction_is_typed(predict: Predict) -> None:
    gateway = Gateway()
    (one,) = predict(gateway, entity="ann", version=3)
    assert one == Prediction("id-7", 7, 0.5, 3)
    (asked,) = gateway.asked
    assert asked.url.path == "/v1/models/digits/predict"
    assert asked.headers["authorization"] == "Bearer t"
    assert asked.headers["x-homeostat-version"] == "3"
    assert json.loads(asked.content) == {"rows": [[7]], "entity": "ann"}


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"),
        httpx.Response(429, headers={"retry-after": "0"}),
        httpx.Response(503, headers={"retry-after": "0"}),
    ],
)
def test_what_was_not_done_is_asked_again(
    predict: Predict, failure: Exception | httpx.Response
) -> None:
    gateway = Gateway(failure, failure)
    assert predict(gateway)[0].value == 7
    assert len(gateway.asked) == 3


def test_an_answer_that_was_lost_is_asked_for_again_only_on_request(predict: Predict) -> None:
    lost = httpx.ReadTimeout("lost")
    gateway = Gateway(lost)
    with pytest.raises(Unavailable, match="The gateway at http://gateway does not answer: lost"):
        predict(gateway)
    assert len(gateway.asked) == 1
    assert predict(Gateway(lost), again=True)[0].value == 7


def test_it_gives_up_and_says_the_last_cause(predict: Predict) -> None:
    gateway = Gateway(*[httpx.ConnectError("refused")] * 9)
    with pytest.raises(Unavailable, match="refused"):
        predict(gateway)
    assert len(gateway.asked) == 4


def test_it_does_not_wait_longer_than_its_caller_would(predict: Predict) -> None:
    busy = {"type": "x", "code": "unavailable", "detail": "Busy.", "remedy": "Later."}
    gateway = Gateway(httpx.Response(503, headers={"retry-after": "3600"}, json=busy))
    with pytest.raises(Unavailable, match="Busy"):
        predict(gateway)
    assert len(gateway.asked) == 1


def test_a_refusal_is_the_gateways_own_error_and_is_not_repeated(predict: Predict) -> None:
    problem = {"code": "invalid-row", "detail": "Row 0 is short.", "remedy": "Send 64.", "row": 0}
    gateway = Gateway(httpx.Response(422, json=problem))
    with pytest.raises(InvalidRow, match=r"Row 0 is short\. Send 64\.") as caught:
        predict(gateway)
    assert caught.value.fields == {"row": 0}
    assert len(gateway.asked) == 1


def test_labels_are_sent_again_whatever_was_lost() -> None:
    gateway = Gateway(httpx.ReadTimeout("lost"), httpx.RemoteProtocolError("closed"))
    with Client("http://gateway", "t", transport=httpx.MockTransport(gateway)) as client:
        taken = client.label({"id-7": 7, "id-8": 8})
    assert [(one.id, one.status) for one in taken] == [("id-7", "accepted"), ("id-8", "accepted")]
    assert len(gateway.asked) == 3


def test_labels_that_were_not_taken_are_said_and_do_not_hide_the_others() -> None:
    results = [{"id": "a", "status": "accepted"}, {"id": "b", "status": "unknown"}]
    problem = {"code": "unknown-prediction", "detail": "No such id.", "results": results}
    gateway = Gateway(httpx.Response(404, json=problem))
    with Client("http://gateway", "t", transport=httpx.MockTransport(gateway)) as client:
        taken = client.label([{"id": "a", "label": 1}, {"id": "b", "label": 1}])
    assert [one.status for one in taken] == ["accepted", "unknown"]


def test_a_batch_is_asked_in_parts_as_it_is_taken() -> None:
    gateway = Gateway()
    with Client("http://gateway", "t", transport=httpx.MockTransport(gateway)) as client:
        coming = client.batch("digits", ([n] for n in range(10)), size=4)
        assert next(coming).value == 0
        assert len(gateway.asked) == 1
        assert [one.value for one in coming] == list(range(1, 10))
    assert [len(json.loads(one.content)["rows"]) for one in gateway.asked] == [4, 4, 2]


def test_an_async_batch_has_some_under_way_and_keeps_the_order() -> None:
    under_way, most = 0, 0

    async def slow(request: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        first = json.loads(request.content)["rows"][0][0]
        await asyncio.sleep(0.02 if first == 0 else 0)  # the first answers last
        under_way -= 1
        return answer(request)

    async def run() -> list[int]:
        async with AsyncClient("http://gateway", transport=httpx.MockTransport(slow)) as client:
            coming = client.batch("digits", ([n] for n in range(20)), size=2, together=3)
            return [one.value async for one in coming]

    assert asyncio.run(run()) == list(range(20))
    assert most == 3


def test_an_async_batch_that_nobody_takes_further_asks_no_more() -> None:
    gateway = Gateway()

    async def run() -> None:
        transport = httpx.MockTransport(gateway)
        async with AsyncClient("http://gateway", transport=transport) as client:
            coming = client.batch("digits", ([n] for n in range(1000)), size=1, together=2)
            async for _ in coming:
                break
            await coming.aclose()

    asyncio.run(run())
    assert len(gateway.asked) <= 3
