"""The Open Inference Protocol (v2) over HTTP: what any of its clients asks, from the same batcher.

An answer is logged, watched and counted as one of our own route; its `parameters` name version,
release and prediction ids. Shapes of requests and answers are those of the protocol; an error is
its `{"error": ...}` with the fields of our problem documents beside it.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.routing import Route

from homeostat.errors import HomeostatError, UnknownVersion
from homeostat.schema import Named
from serving import views
from serving.admitting import Knower, let_in
from serving.bodies import read_body
from serving.fleet import Split
from serving.gateway import Gateway
from serving.oip_requests import check_outputs, parse_inference, render
from serving.oip_tensors import DATATYPES
from serving.runtime import Loaded

HEADER_LENGTH = "inference-header-content-length"
EXTENSIONS = ("binary_tensor_data",)
MODEL = "/v2/models/{model}"
VERSION = MODEL + "/versions/{version}"


def routes(gateway: Gateway) -> APIRouter:
    """All routes of the protocol."""
    router = APIRouter(tags=["open inference protocol"])

    @router.get("/v2")
    async def server() -> dict[str, Any]:
        """What answers here, and which extensions of the protocol it knows."""
        known = {"name": "homeostat", "version": metadata.version("homeostat")}
        return {**known, "extensions": list(EXTENSIONS)}

    @router.get("/v2/health/live")
    async def server_live() -> dict[str, bool]:
        """The process answers."""
        return {"live": True}

    @router.get("/v2/health/ready")
    async def server_ready() -> JSONResponse:
        """Every model that has a routing is served; 503 until then."""
        ready, _ = views.health(gateway)
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    @router.get(MODEL)
    async def model_metadata(model: str, _: Knower) -> dict[str, Any]:
        """A model's versions that serve, its inputs and outputs."""
        split = gateway.fleet.serving(model)
        return _described(split, split.champion)

    @router.get(VERSION)
    async def version_metadata(model: str, version: str, _: Knower) -> dict[str, Any]:
        """As of the model, of one version that serves."""
        split = gateway.fleet.serving(model)
        return _described(split, _named(split, version))

    @router.get(MODEL + "/ready")
    async def model_ready(model: str, _: Knower) -> dict[str, Any]:
        """A version of the model serves; 503 until then."""
        return {"name": gateway.fleet.serving(model).model, "ready": True}

    @router.get(VERSION + "/ready")
    async def version_ready(model: str, version: str, _: Knower) -> dict[str, Any]:
        """That version serves; 404 where it does not."""
        _named(gateway.fleet.serving(model), version)
        return {"name": model, "version": version, "ready": True}

    async def infer(request: Request) -> Response:
        model = request.path_params["model"]
        try:
            with let_in(request, "predict"):
                return await _infer(gateway, model, request)
        except HomeostatError as error:
            gateway.predictor.count_refusal(model, error)
            raise

    # Plain routes: FastAPI's would cost more than the prediction. They stand in serving.openapi.
    router.routes += [
        Route(path, infer, methods=["POST"]) for path in (MODEL + "/infer", VERSION + "/infer")
    ]
    return router


async def _infer(gateway: Gateway, model: str, request: Request) -> Response:
    settings = gateway.settings
    split = gateway.fleet.serving(model)
    version = request.path_params.get("version")
    loaded = split.champion if version is None else _named(split, version)
    body = await read_body(request.headers.raw, request.receive, settings.max_body_bytes)
    length = request.headers.get(HEADER_LENGTH)
    asked = parse_inference(
        body,
        None if length is None else length.encode("latin-1"),
        loaded.learner.inputs,
        settings.max_rows,
        0 if version is None else loaded.version,
        settings.max_elements,
    )
    check_outputs(asked, loaded.learner.outputs)  # before there is an answer to log
    reply = await gateway.batcher.submit(model, asked.request)
    answered = gateway.fleet.serving(model).find(reply.version) or split.find(reply.version)
    outputs = (answered or loaded).learner.outputs
    content, head = render(asked, model, outputs, reply.body)
    headers = {
        "x-homeostat-version": str(reply.version),
        "x-homeostat-generation": str(reply.generation),
    }
    if head is None:
        return Response(content, headers=headers, media_type="application/json")
    headers["Inference-Header-Content-Length"] = str(head)
    return Response(content, headers=headers, media_type="application/octet-stream")


def _named(split: Split, version: str) -> Loaded:
    """The version of an address.

    Raises:
        UnknownVersion: it is none that serves.
    """
    if version.isascii() and version.isdigit() and len(version) < 10:
        return split.named(int(version))
    raise UnknownVersion(
        f"'{version[:80]}' is no version of '{split.model}'.",
        remedy="Versions are whole numbers.",
        model=split.model,
    )


def _described(split: Split, loaded: Loaded) -> dict[str, Any]:
    return {
        "name": split.model,
        "versions": [str(one.version) for one in split.answering],
        "platform": f"homeostat_{loaded.learner.format}",
        "inputs": [_tensor(spec) for spec in loaded.learner.inputs],
        "outputs": [_tensor(spec) for spec in loaded.learner.outputs],
    }


def _tensor(spec: Named) -> dict[str, Any]:
    shape = [-1] if spec.width is None else [-1, spec.width]
    return {"name": spec.name, "datatype": DATATYPES[spec.kind], "shape": shape}
