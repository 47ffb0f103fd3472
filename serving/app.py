"""The gateway over HTTP: routes that parse, call one function, and answer."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer

from homeostat.errors import (
    ConflictingLabel,
    InvalidLabel,
    TooLarge,
    UnknownPrediction,
)
from homeostat.settings import Settings
from registry.incidents import acknowledge
from registry.labels import LabelItem
from registry.promotion import grant_override
from serving import handlers, openapi, requests, views, webhook
from serving.approving import approve_version
from serving.bodies import parse, read_body
from serving.feedback import LabelResult
from serving.gateway import Gateway
from serving.metrics import CONTENT_TYPE
from serving.predicting import Predictor

Body = TypeVar("Body")
_bearer = HTTPBearer(auto_error=False, description="The token of the state folder.")


class GatewayApp(FastAPI):
    """FastAPI with the predict route taken before the router, and in the same document."""

    gateway: Gateway

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        """Predictions on the short way, everything else through the router."""
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
    app.include_router(_routes(parts), dependencies=[Depends(_authorize)])
    handlers.install(app)
    return app


def _open_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/health/live")
    async def live() -> dict[str, bool]:
        """The process answers."""
        return {"live": True}

    @router.get("/health/ready")
    async def ready() -> JSONResponse:
        """Every model that has a routing is served; 503 until then."""
        yes, document = views.health(gateway)
        return JSONResponse(document, 200 if yes else 503)

    @router.get("/metrics")
    def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(gateway.metrics.render(), media_type=CONTENT_TYPE)

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
    limit = gateway.settings.max_body_bytes

    async def body_of(request: Request, kind: type[Body]) -> Body:
        return parse(await read_body(request.headers.raw, request.receive, limit), kind)

    @router.post("/labels", openapi_extra=requests.takes(requests.LabelsBody))
    async def labels(request: Request) -> dict[str, Any]:
        """Take labels by prediction id; idempotent."""
        body = await body_of(request, requests.LabelsBody)
        if len(body.labels) > gateway.settings.max_rows:
            most = gateway.settings.max_rows
            raise TooLarge(
                f"The request has {len(body.labels)} labels; at most {most} are taken at once.",
                remedy="Send them in several requests.",
                limit=most,
            )
        items = [LabelItem(one.id, one.label, one.source) for one in body.labels]
        return _labelled(await run_in_threadpool(gateway.feedback.take, items))

    @router.get("/models")
    def models() -> dict[str, Any]:
        """Every model with what serves it."""
        return views.models(gateway)

    @router.get("/models/{model}")
    def model(model: str) -> dict[str, Any]:
        """One model: routing, versions, evidence, incidents."""
        return views.model(gateway, model)

    @router.get("/models/{model}/history")
    def history(model: str) -> dict[str, Any]:
        """Every routing and release of a model."""
        return views.history(gateway, model)

    @router.get("/incidents")
    def incidents(model: str | None = None, every: bool = False) -> dict[str, Any]:
        """Open incidents; with `every` resolved ones too."""
        return views.incidents(gateway, model, every=every)

    @router.post(
        "/incidents/{incident}/acknowledge",
        openapi_extra=requests.takes(requests.AcknowledgeBody),
    )
    async def acknowledged(incident: str, request: Request) -> dict[str, Any]:
        """Somebody has seen an incident."""
        body = await body_of(request, requests.AcknowledgeBody)

        def act() -> dict[str, Any]:
            with gateway.parts.writing() as session:
                now = gateway.parts.clock()
                return views.incident(acknowledge(session, incident, body.actor, now))

        return await run_in_threadpool(act)

    @router.post("/models/{model}/promote", openapi_extra=requests.takes(requests.PromoteBody))
    async def promote(model: str, request: Request) -> dict[str, Any]:
        """Make a version champion at once, if gates or an override allow it."""
        gateway.fleet.get(model)
        body = await body_of(request, requests.PromoteBody)

        def act() -> dict[str, Any]:
            routing = gateway.moves.request(
                model,
                body.version,
                body.actor,
                body.reason,
                override=body.override,
                expires_hours=body.expires_hours,
                expected=body.expected_generation,
            )
            gateway.prover.wait(routing)
            return views.routing(routing)

        return await run_in_threadpool(act)

    @router.post("/models/{model}/rollback", openapi_extra=requests.takes(requests.RollbackBody))
    async def rollback(model: str, request: Request) -> dict[str, Any]:
        """Give the traffic back to the standby."""
        gateway.fleet.get(model)
        body = await body_of(request, requests.RollbackBody)

        def act() -> dict[str, Any]:
            routing = gateway.moves.roll_back(
                model, body.actor, body.reason, body.expected_generation
            )
            gateway.prover.wait(routing)
            return views.routing(routing)

        return await run_in_threadpool(act)

    @router.post("/models/{model}/restore", openapi_extra=requests.takes(requests.RestoreBody))
    async def restored(model: str, request: Request) -> dict[str, Any]:
        """Register what MLflow lost again from the pinned copies, with the same digests."""
        gateway.fleet.get(model)
        body = await body_of(request, requests.RestoreBody)
        return await run_in_threadpool(
            gateway.restore, model, body.version, body.actor, body.reason
        )

    @router.get("/models/{model}/pins")
    def pins(model: str, verify: bool = False) -> dict[str, Any]:
        """The pinned copies of the versions with a role; with `verify` checked byte by byte now."""
        return views.pins(gateway, model, verify=verify)

    @router.post("/models/{model}/overrides", openapi_extra=requests.takes(requests.OverrideBody))
    async def overrides(model: str, request: Request) -> dict[str, Any]:
        """Let a version pass the gates for a while; its alias may then be moved in MLflow."""
        gateway.fleet.get(model)
        body = await body_of(request, requests.OverrideBody)

        def act() -> dict[str, Any]:
            now = gateway.parts.clock()
            until = now + timedelta(hours=body.expires_hours)
            with gateway.parts.writing() as session:
                grant_override(session, model, body.version, body.actor, body.reason, until, now)
            return {
                "model": model,
                "version": body.version,
                "actor": body.actor,
                "reason": body.reason,
                "expires_at": until.isoformat(),
            }

        return await run_in_threadpool(act)

    @router.post("/models/{model}/approvals", openapi_extra=requests.takes(requests.ApprovalBody))
    async def approvals(model: str, request: Request) -> dict[str, Any]:
        """Approve the verdict that stands on a version, as one of the people whom policy asks."""
        gateway.fleet.get(model)
        body = await body_of(request, requests.ApprovalBody)
        return await run_in_threadpool(approve_version, gateway, model, body)

    return router


async def _authorize(
    request: Request,
    _: Annotated[object, Depends(_bearer)],  # only for the OpenAPI document
) -> None:
    app: GatewayApp = request.app
    header = request.headers.get("authorization")
    app.gateway.access.check(header.encode("latin-1") if header is not None else None)


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
            remedy="The second is kept beside it; the other labels were taken.",
            results=shown,
        )
    if unknown := by_status.get("unknown"):
        raise UnknownPrediction(
            f"No prediction has the id {unknown.id}.",
            remedy="Its label is kept, and counts when the prediction shows up.",
            results=shown,
        )
    return {"results": shown}
