"""The gateway over HTTP: routes that parse, call one function, and answer."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from homeostat.errors import (
    ConflictingLabel,
    InvalidLabel,
    TooLarge,
    UnknownPrediction,
)
from homeostat.settings import Settings
from registry.labels import LabelItem
from serving import (
    acting,
    automation,
    handlers,
    held,
    oip,
    openapi,
    requests,
    table_route,
    trials,
    views,
    webhook,
)
from serving.admitting import Labeller, Reader, body_reader, scraper
from serving.bodies import read_body
from serving.feedback import LabelResult
from serving.gateway import Gateway
from serving.metrics import MEDIA
from serving.page.routes import install as install_page
from serving.predicting import Predictor


class GatewayApp(FastAPI):
    """FastAPI with the predict route taken before the router, and in the same document."""

    gateway: Gateway

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        """Predictions on the short way, everything else through the router."""
        if scope["type"] == "http":
            send = self.gateway.traces.traced(scope, send)
        if scope["type"] == "http" and (model := Predictor.model_of(scope)) is not None:
            await self.gateway.predictor(model, scope, receive, send)
            return
        await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """The document of all routes; built once."""
        if self.openapi_schema is None:
            self.openapi_schema = openapi.complete(super().openapi())
        return self.openapi_schema


def create_app(settings: Settings, gateway: Gateway | None = None) -> GatewayApp:
    """The gateway as an ASGI application; it starts and stops with the server.

    Args:
        settings: Of this installation.
        gateway: Its parts; made from the settings where not given.
    """
    parts = gateway or Gateway(settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(parts.start)
        try:
            yield
        finally:
            await run_in_threadpool(parts.stop)

    app = GatewayApp(
        title="Homeostat gateway",
        description="Predictions that are watched; labels that are acted on.",
        lifespan=lifespan,
        # Their pages load scripts from elsewhere; /openapi.json is the description itself.
        docs_url=None,
        redoc_url=None,
    )
    app.gateway = parts
    app.include_router(_open_routes(parts))
    app.include_router(_hook_routes(parts))
    app.include_router(_routes(parts))
    app.include_router(oip.routes(parts))
    app.include_router(table_route.routes(parts))
    app.include_router(acting.routes(parts))
    app.include_router(held.routes(parts))
    app.include_router(trials.routes(parts))
    app.include_router(automation.routes(parts))
    install_page(app, parts)
    handlers.install(app)
    return app


def _open_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/health/live")
    async def live() -> dict[str, bool]:
        """The process answers."""
        return {"live": True}

    @router.get("/health/ready", dependencies=[Depends(scraper)])
    async def ready() -> JSONResponse:
        """Every model that has a routing is served; 503 until then."""
        yes, document = views.health(gateway)
        return JSONResponse(document, 200 if yes else 503)

    @router.get(
        "/metrics",
        dependencies=[Depends(scraper)],
        response_class=Response,
        responses={200: {"content": {media: {"schema": {"type": "string"}} for media in MEDIA}}},
    )
    def metrics(request: Request) -> Response:
        """Figures for Prometheus; as OpenMetrics with exemplars, where that is accepted."""
        content, media = gateway.metrics.render(request.headers.get("accept", ""))
        return Response(content, media_type=media)

    return router


def _hook_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["webhook"])

    @router.post(webhook.PATH, status_code=204)
    async def mlflow_webhook(request: Request) -> Response:
        """MLflow's webhook, signed with webhook_secret: the aliases are read now."""
        gateway.webhook.check_open()
        body = await read_body(request.headers.raw, request.receive, webhook.LONGEST_BODY)
        gateway.webhook.take(request.headers, body)
        return Response(status_code=204)

    return router


def _routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(prefix="/v1")
    body_of = body_reader(gateway.settings.max_body_bytes)

    @router.post("/labels", openapi_extra=requests.takes(requests.LabelsBody))
    async def labels(request: Request, caller: Labeller) -> dict[str, Any]:
        """Take labels by prediction id; idempotent."""
        body = await body_of(request, requests.LabelsBody)
        if len(body.labels) > gateway.settings.max_rows:
            most = gateway.settings.max_rows
            raise TooLarge(
                f"The request has {len(body.labels)} labels; at most {most} are taken at once.",
                remedy="Send them in several requests.",
                limit=most,
            )
        items = [LabelItem(one.id, one.label, one.source, one.revise) for one in body.labels]
        return _labelled(await run_in_threadpool(gateway.feedback.take, items, caller.models))

    @router.get("/models")
    def models(caller: Reader) -> dict[str, Any]:
        """Every model of the caller's with what serves it."""
        return views.models(gateway, gateway.access.visible(caller))

    @router.get("/gateways")
    def gateways(caller: Reader) -> dict[str, Any]:
        """The gateways of this database: who is there, what each serves, and who lags."""
        return views.gateways(gateway, gateway.access.visible(caller))

    @router.get("/models/{model}")
    def model(model: str, _: Reader) -> dict[str, Any]:
        """One model: routing, versions, evidence, incidents."""
        return views.model(gateway, model)

    return router


def _labelled(results: list[LabelResult]) -> dict[str, Any]:
    """The results; the gravest status decides the answer, valid labels are kept in any case.

    Raises:
        InvalidLabel: some label cannot be used.
        ConflictingLabel: some label contradicts an earlier one.
        UnknownPrediction: some id was never given out; its label waits for it.
    """
    shown = [
        {"id": one.id, "status": one.status} | ({"detail": one.detail} if one.detail else {})
        for one in results
    ]
    by_status = {one.status: one for one in reversed(results)}
    if invalid := by_status.get("invalid"):
        raise InvalidLabel(
            f"The label of {invalid.id} cannot be used: {invalid.detail}",
            remedy="Send a truth of this model's kind; the other labels were taken.",
            results=shown,
        )
    if conflict := by_status.get("conflict"):
        raise ConflictingLabel(
            f"The label of {conflict.id} contradicts the first one, which stands.",
            remedy="The second is kept beside it; with `revise` it takes its place. The "
            "other labels were taken.",
            results=shown,
        )
    if unknown := by_status.get("unknown"):
        raise UnknownPrediction(
            f"No prediction has the id {unknown.id}.",
            remedy="Its label is kept, and counts when the prediction shows up.",
            results=shown,
        )
    return {"results": shown}
