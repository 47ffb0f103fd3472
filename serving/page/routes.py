"""The routes of the page: each takes who is signed in, gathers, and renders."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, StreamingResponse
from fastapi.routing import APIRoute

from homeostat.errors import HomeostatError, Unauthorized
from registry.matrix import Standing
from serving import views
from serving.access import Caller
from serving.admitting import at_admin_port
from serving.gateway import Gateway
from serving.page import acts, changes
from serving.page.course import Courses
from serving.page.doors import SignedForm, Viewer, sessions_of
from serving.page.evidence import Looks
from serving.page.fleet import fleet_view
from serving.page.incident import incident_view
from serving.page.live import Pulse
from serving.page.live import changes as changes_of
from serving.page.model import mlflow_page, model_view, then_view, versions_view
from serving.page.rendering import rendered
from serving.page.replies import HEADERS, page
from serving.page.reports import REPORT_POLICY, report_file, runbook_page
from serving.page.sessions import COOKIE, Sessions
from serving.page.signing import SIGN_IN, add_doors
from serving.page.verdict import approve, version_view
from serving.problems import problem, status_of

Hours = Annotated[int, Query(ge=1, le=24 * 90)]


class PageRoute(APIRoute):
    """A route whose refusals are pages: who is not signed in is asked to."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with errors rendered."""
        handler = super().get_route_handler()

        async def rendered(request: Request) -> Response:
            try:
                return await handler(request)
            except HomeostatError as error:
                return refusal(request, error)

        return rendered


def install(app: FastAPI, gateway: Gateway) -> None:
    """Let an application serve the page of a gateway."""
    app.state.page_sessions = Sessions(gateway.access, gateway.settings)
    app.include_router(routes(gateway))


def routes(gateway: Gateway) -> APIRouter:
    """All routes of the page, at the port of the routes that act."""
    router = APIRouter(
        dependencies=[Depends(at_admin_port)], route_class=PageRoute, include_in_schema=False
    )
    add_doors(router, gateway.settings)

    @router.get("/")
    def fleet(request: Request, caller: Viewer) -> Response:
        """What serves where, what is wrong, what comes next."""
        view = fleet_view(gateway, gateway.access.visible(caller))
        return shown(request, caller, "fleet.html.j2", view=view, now=view.now)

    _live(router, gateway)
    _models(router, gateway)
    _versions(router, gateway)
    _incidents(router, gateway)
    _files(router, gateway)
    _changes(router, gateway)
    _acts(router, gateway)
    return router


def shown(request: Request, caller: Caller, template: str, **values: object) -> Response:
    """A page of somebody who is signed in."""
    cookie = request.cookies.get(COOKIE, "")
    gateway = request.app.gateway
    text = rendered(
        template,
        caller=caller,
        form=sessions_of(request).form_token(cookie),
        path=request.url.path,
        models=gateway.access.visible(caller),
        **values,
    )
    return page(text)


def refusal(request: Request, error: HomeostatError) -> Response:
    """An error as a page; who is not signed in goes to where one does."""
    if not isinstance(error, Unauthorized) or request.method != "GET":
        return page(rendered("problem.html.j2", problem=problem(error)), status_of(error.code))
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if request.headers.get("sec-fetch-site") == "cross-site":
        # The browser keeps a strict cookie from a link in somebody's mail: asked again by a page
        # of ours, it sends it.
        return page(rendered("onward.html.j2", next=here))
    back = f"?next={quote(here, safe='')}" if here != "/" else ""
    return RedirectResponse(SIGN_IN + back, 303, HEADERS)


def _live(router: APIRouter, gateway: Gateway) -> None:
    pulse = Pulse(gateway)

    @router.get("/page/events")
    async def events(request: Request) -> Response:
        """That something changed, as server-sent events, until the session or the gateway ends."""
        sessions, cookie = sessions_of(request), request.cookies.get(COOKIE, "")
        caller = sessions.whose(cookie)
        gateway.access.need(caller, "read")
        caller.meter.enter(caller.name, time.monotonic())
        caller.meter.leave()  # it would hold one of the token's few places for hours

        def goes_on() -> bool:
            return not gateway.leaving.begun and sessions.lasts(cookie)

        stream = changes_of(pulse, gateway.access.visible(caller), goes_on)
        return StreamingResponse(stream, 200, HEADERS, "text/event-stream")


def _models(router: APIRouter, gateway: Gateway) -> None:
    courses = Courses(gateway)

    def matrix_of(caller: Caller, model: str) -> dict[str, object]:
        """What the part of the versions takes; without MLflow, why there is none."""
        found: list[Standing] = []
        trouble = ""
        try:
            found = versions_view(gateway, model)
        except HomeostatError as error:
            trouble = str(error)
        return {
            "versions": found,
            "trouble": trouble,
            "regimes": sorted({regime for row in found for regime in row.accuracy}),
            "model": model,
            "mlflow": mlflow_page(gateway.settings, model),
            "verbs": caller.of(model),
            "now": gateway.parts.clock(),
        }

    @router.get("/page/models/{model}")
    def model(
        request: Request,
        caller: Viewer,
        model: str,
        at: str = "",
        hours: Hours = 24,
        *,
        whole: bool = False,
    ) -> Response:
        """One model; `at`: also what served then; `whole`: with the parts that take a while."""
        values: dict[str, object] = {"course": None, "versions": None}
        if whole:
            values = matrix_of(caller, model) | {"course": courses.of(model, hours)}
        values["then"] = then_view(gateway, model, at) if at else None
        view = model_view(gateway, model)
        values |= {"view": view, "hours": hours, "now": view.now}
        return shown(request, caller, "model.html.j2", **values)

    @router.get("/page/models/{model}/timeline")
    def timeline(_: Viewer, model: str, hours: Hours = 24) -> Response:
        """That part of a model's page alone."""
        return page(rendered("course.html.j2", course=courses.of(model, hours)))

    @router.get("/page/models/{model}/versions")
    def versions(caller: Viewer, model: str) -> Response:
        """Likewise; MLflow is asked for it."""
        return page(rendered("versions.html.j2", **matrix_of(caller, model)))


def _versions(router: APIRouter, gateway: Gateway) -> None:
    @router.get("/page/models/{model}/versions/{version}")
    def version(request: Request, caller: Viewer, model: str, version: str) -> Response:
        """One version: its gates, approvals and roles."""
        view = version_view(gateway, model, changes.version_of(version))
        return shown(request, caller, "version.html.j2", view=view, now=view.now)

    @router.post("/page/models/{model}/versions/{version}/approve")
    def approved(caller: Viewer, fields: SignedForm, model: str, version: str) -> Response:
        """Somebody approves what its gates said."""
        number = changes.version_of(version)
        approve(gateway, caller, model, number, fields)
        return _seen(f"/page/models/{quote(model, safe='')}/versions/{number}")


def _incidents(router: APIRouter, gateway: Gateway) -> None:
    looks = Looks(gateway)

    @router.get("/page/incidents/{incident}")
    async def incident(
        request: Request, caller: Viewer, incident: str, *, why: bool = False
    ) -> Response:
        """One incident; with `why` also what moved in the rows behind it."""
        view = await run_in_threadpool(incident_view, gateway, incident, caller.sees)
        one = view.incident
        found = await looks.look(one) if why else looks.known(one)
        return shown(request, caller, "incident.html.j2", view=view, now=view.now, evidence=found)

    @router.get("/page/incidents/{incident}/evidence")
    async def evidence(caller: Viewer, incident: str) -> Response:
        """That part of an incident's page alone, which takes a while."""
        view = await run_in_threadpool(incident_view, gateway, incident, caller.sees)
        return page(await looks.look(view.incident))


def _changes(router: APIRouter, gateway: Gateway) -> None:
    """What a person does: a GET asks whether it is meant, its POST does it."""

    @router.post("/page/incidents/{incident}/acknowledge")
    def acknowledge(caller: Viewer, _: SignedForm, incident: str) -> Response:
        """Somebody has seen it."""

        def theirs(model: str) -> bool:
            if caller.sees(model):
                gateway.access.require(caller, "rollback", model)
            return caller.sees(model)

        views.acknowledged(gateway, incident, caller.name, theirs)
        return _seen(f"/page/incidents/{quote(incident, safe='')}")

    @router.post("/page/incidents/{incident}/report")
    def report(caller: Viewer, _: SignedForm, incident: str) -> Response:
        """Somebody wants to look closer."""
        acts.ask_report(gateway, caller, incident_view(gateway, incident, caller.sees).incident)
        return _seen(f"/page/incidents/{quote(incident, safe='')}")

    @router.get("/page/models/{model}/promote")
    def ask_promotion(request: Request, caller: Viewer, model: str, version: str) -> Response:
        """Whether a version is really to take all traffic."""
        change = changes.promotion(gateway, caller, model, changes.version_of(version))
        return shown(request, caller, "confirm.html.j2", change=change)

    @router.post("/page/models/{model}/promote")
    def promote(caller: Viewer, fields: SignedForm, model: str) -> Response:
        """It is."""
        changes.promote(gateway, caller, model, fields)
        return _seen(f"/page/models/{quote(model, safe='')}")

    @router.get("/page/models/{model}/rollback")
    def ask_rollback(request: Request, caller: Viewer, model: str) -> Response:
        """Whether the traffic is really to go back."""
        change = changes.rollback(gateway, caller, model)
        return shown(request, caller, "confirm.html.j2", change=change)

    @router.post("/page/models/{model}/rollback")
    def roll_back(caller: Viewer, fields: SignedForm, model: str) -> Response:
        """It is."""
        changes.roll_back(gateway, caller, model, fields)
        return _seen(f"/page/models/{quote(model, safe='')}")

    @router.get("/page/models/{model}/rollout/{action}")
    def ask_steering(
        request: Request, caller: Viewer, model: str, action: str, version: str = "1"
    ) -> Response:
        """Whether a trial is really to be begun, paused, resumed, skipped or ended."""
        number = changes.version_of(version)
        change = changes.steering(gateway, caller, model, action, number)
        return shown(request, caller, "confirm.html.j2", change=change)

    @router.post("/page/models/{model}/rollout/{action}")
    def steer(caller: Viewer, fields: SignedForm, model: str, action: str) -> Response:
        """It is."""
        changes.steer(gateway, caller, model, action, fields)
        return _seen(f"/page/models/{quote(model, safe='')}")


def _acts(router: APIRouter, gateway: Gateway) -> None:
    """What a person does to automation, likewise."""

    @router.get("/page/models/{model}/automation/{action}")
    def ask_automation(request: Request, caller: Viewer, model: str, action: str) -> Response:
        """Whether automation is really to be paused, or to act again."""
        change = acts.automation(gateway, caller, model, action)
        return shown(request, caller, "confirm.html.j2", change=change, hours=acts.HOURS)

    @router.post("/page/models/{model}/automation/{action}")
    def automate(caller: Viewer, fields: SignedForm, model: str, action: str) -> Response:
        """It is."""
        acts.automate(gateway, caller, model, action, fields)
        return _seen(f"/page/models/{quote(model, safe='')}")

    @router.get("/page/models/{model}/versions/{version}/release")
    def ask_release(request: Request, caller: Viewer, model: str, version: str) -> Response:
        """Whether a version is really to be let out of quarantine."""
        change = acts.freeing(gateway, caller, model, changes.version_of(version))
        return shown(request, caller, "confirm.html.j2", change=change)

    @router.post("/page/models/{model}/versions/{version}/release")
    def release(caller: Viewer, fields: SignedForm, model: str, version: str) -> Response:
        """It is."""
        number = changes.version_of(version)
        acts.let_go(gateway, caller, model, number, fields)
        return _seen(f"/page/models/{quote(model, safe='')}/versions/{number}")


def _seen(address: str) -> Response:
    """On to where what was done is seen."""
    return RedirectResponse(address, 303, HEADERS)


def _files(router: APIRouter, gateway: Gateway) -> None:
    @router.get("/page/runbooks/{name}")
    def runbook(request: Request, caller: Viewer, name: str) -> Response:
        """A runbook, where the repository is on this machine."""
        text = runbook_page(name)
        return shown(request, caller, "runbook.html.j2", name=name, text=text)

    @router.get("/page/models/{model}/reports/{report}/{name}")
    def report(_: Viewer, model: str, report: str, name: str) -> Response:
        """A file of a report that was kept."""
        content, media = report_file(gateway.settings, model, report, name)
        kept = HEADERS | {"content-security-policy": REPORT_POLICY}
        return Response(content, 200, kept, media)
