"""The Open Inference Protocol as a client that others wrote speaks it, over a real socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException

from homeostat.clock import utc_now
from registry import connect, find_predictions, sessions, transaction
from registry.tokens import create_token
from tests.asking import ask

if TYPE_CHECKING:
    from tests.integration.protocols.conftest import Server

TOKEN = {"Authorization": "Bearer the-token"}
Client = Any  # tritonclient ships no types
INK = np.arange(192, dtype=np.float32).reshape(3, 64) % 17


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with triton.InferenceServerClient(server.host) as client:
        yield client


def infer(client: Client, **given: Any) -> Any:  # noqa: ANN401 - a client's result
    return client.infer(headers=dict(TOKEN), **given)  # it writes into them


def tensor(name: str, values: Any, datatype: str, *, binary: bool) -> Any:  # noqa: ANN401 - numpy's, and the client's
    given = triton.InferInput(name, list(values.shape), datatype)
    given.set_data_from_numpy(values, binary_data=binary)
    return given


def test_the_server_says_what_it_is_and_that_it_is_ready(client: Client) -> None:
    about = client.get_server_metadata()
    assert (about["name"], about["extensions"]) == ("homeostat", ["binary_tensor_data"])
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits", headers=TOKEN)
    assert client.is_model_ready("digits", "1", headers=TOKEN)
    for model, version in (("digits", "2"), ("digits", "x"), ("empty", ""), ("nope", "")):
        assert not client.is_model_ready(model, version, headers=TOKEN)


def test_a_model_says_what_it_takes_and_answers(client: Client) -> None:
    about = client.get_model_metadata("digits", headers=TOKEN)
    assert about == client.get_model_metadata("digits", "1", headers=TOKEN)
    assert (about["versions"], about["platform"]) == (["1"], "homeostat_torch")
    assert about["inputs"] == [{"name": "pixels", "datatype": "FP32", "shape": [-1, 64]}]
    assert about["outputs"] == [
        {"name": "prediction", "datatype": "INT64", "shape": [-1]},
        {"name": "confidence", "datatype": "FP32", "shape": [-1]},
    ]
    page = (Path(__file__).parents[3] / "docs" / "protocols.md").read_text()
    assert json.dumps(about, separators=(",", ":")) in page
    shop = client.get_model_metadata("shop", headers=TOKEN)
    assert {one["name"]: one["datatype"] for one in shop["inputs"]} == {
        "size": "FP64",
        "colour": "BYTES",
        "count": "FP64",
    }


@pytest.mark.parametrize("binary", [True, False])
def test_an_inference_is_a_prediction_that_is_logged(
    server: Server, client: Client, binary: bool
) -> None:
    asked = [
        triton.InferRequestedOutput(n, binary_data=binary) for n in ("prediction", "confidence")
    ]
    given = [tensor("pixels", INK, "FP32", binary=binary)]
    result = infer(client, model_name="digits", inputs=given, outputs=asked, request_id="mine")
    ours = ask(
        "POST",
        f"http://{server.host}/v1/models/digits/predict",
        json={"rows": INK.tolist()},
        headers=TOKEN,
    ).json()["predictions"]
    assert result.as_numpy("prediction").tolist() == [one["prediction"] for one in ours]
    assert result.as_numpy("confidence").tolist() == [one["confidence"] for one in ours]
    said = result.get_response()
    assert (said["id"], said["model_name"], said["model_version"]) == ("mine", "digits", "1")
    told = said["parameters"]
    assert (told["version"], told["generation"], told["release"]) == (1, 1, "digits:1@g1")
    ids = told["prediction_ids"].split(",")
    server.gateway.writer.drain()
    with transaction(sessions(connect(server.gateway.settings.database))) as session:
        logged = find_predictions(session, ids)
    assert [logged[one].row for one in ids] == INK.tolist()


def test_columns_are_tensors_and_what_is_missing_is_nan(server: Server, client: Client) -> None:
    size = np.array([1.0, np.nan, 5.0])
    colour = np.array([b"red", b"green", "bl\N{LATIN SMALL LETTER U WITH DIAERESIS}".encode()])
    given = [
        tensor("size", size, "FP64", binary=True),
        tensor("colour", colour.astype(object), "BYTES", binary=True),
        tensor("count", np.array([[1], [2], [3]], dtype=np.int64), "INT64", binary=False),
    ]
    result = infer(client, model_name="shop", inputs=given, parameters={"entity": "ann"})
    assert {one.decode() for one in result.as_numpy("prediction")} <= {"yes", "no"}
    ids = result.get_response()["parameters"]["prediction_ids"].split(",")
    server.gateway.writer.drain()
    with transaction(sessions(connect(server.gateway.settings.database))) as session:
        logged = find_predictions(session, ids)
    assert [logged[one].row for one in ids] == [
        {"size": 1.0, "colour": "red", "count": 1},
        {"size": None, "colour": "green", "count": 2},
        {"size": 5.0, "colour": "bl\u00fc", "count": 3},
    ]
    assert {logged[one].entity for one in ids} == {"ann"}


@pytest.mark.parametrize(
    ("model", "version", "values", "status", "word"),
    [
        ("nope", "", INK, "404", "no model 'nope'"),
        ("digits", "2", INK, "404", "Version 2 of 'digits' answers nobody"),
        ("digits", "1.0", INK, "404", "no version of"),
        ("empty", "", INK, "503", "No version of 'empty' is loaded"),
        ("digits", "", INK[:, :63], "400", "Send [N,64]"),
        ("digits", "1", INK + 17, "422", "outside 0 to 16"),
        ("digits", "", np.full((1, 64), np.nan, dtype=np.float32), "422", "column 0"),
        ("digits", "", np.zeros((5000, 64), dtype=np.float32), "413", "at most 4096"),
    ],
)
def test_what_is_wrong_is_said_as_the_protocol_says_it(
    client: Client,
    model: str,
    version: str,
    values: Any,  # noqa: ANN401 - an array
    status: str,
    word: str,
) -> None:
    given = [tensor("pixels", values, "FP32", binary=True)]
    with pytest.raises(InferenceServerException) as caught:
        infer(client, model_name=model, model_version=version, inputs=given)
    assert caught.value.status() == status
    assert word in caught.value.message()
    assert (
        infer(
            client,
            model_name="digits",
            model_version="1",
            inputs=[tensor("pixels", INK, "FP32", binary=True)],
        ).get_response()["model_version"]
        == "1"
    )


def test_the_door_is_the_one_of_every_route_and_other_addresses_answer_alike(
    server: Server,
) -> None:
    with transaction(sessions(connect(server.gateway.settings.database))) as session:
        secret = create_token(session, "ann", ["predict"], ["shop"], actor="test", now=utc_now())[1]
    gateway = server.gateway
    gateway.tokens.look()
    hers = {"Authorization": f"Bearer {secret}"}
    ours = httpx.Client(base_url=f"http://{server.host}", headers=hers, trust_env=False)
    with ours as caller:
        assert caller.get("/v2/models/shop").status_code == 200
        for method, path, status in (
            ("GET", "/v2/models/digits", 404),
            ("POST", "/v2/models/digits/infer", 404),
            ("GET", "/v2/models/digits/infer", 405),
            ("GET", "/v2/models/shop/versions/1/infer", 405),
            ("GET", "/v2/nowhere", 404),
        ):
            answer = caller.request(method, path)
            assert (answer.status_code, answer.headers["content-type"]) == (
                status,
                "application/json",
            )
            assert answer.json()["error"]
        nobody = caller.post("/v2/models/shop/infer", headers={"Authorization": ""})
        assert (nobody.status_code, nobody.json()["code"]) == (401, "unauthorized")
        metrics = caller.get("/metrics").text
    assert 'homeostat_requests_total{model="digits",outcome="unknown-version"}' in metrics
    holder = gateway.access.check(hers["Authorization"].encode())
    assert holder.meter.under_way == 0


def test_the_routes_stand_in_the_one_document(server: Server) -> None:
    document = ask("GET", f"http://{server.host}/openapi.json").json()
    assert {
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/{model}",
        "/v2/models/{model}/ready",
        "/v2/models/{model}/infer",
        "/v2/models/{model}/versions/{version}",
        "/v2/models/{model}/versions/{version}/ready",
        "/v2/models/{model}/versions/{version}/infer",
    } <= set(document["paths"])
