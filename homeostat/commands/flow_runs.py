"""Flow runs through Prefect's REST API: ask for one, follow it, tell its error as ours."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx

from homeostat.addresses import has_certificate
from homeostat.errors import HomeostatError, Unavailable

_SECONDS = 10.0
_PAUSE = 0.3
# Prefect's server on SQLite says so while another writer holds its database.
_BUSY = (429, 502, 503)
_BUSY_SECONDS = 30.0
_FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
# What Prefect logs of every run and task, whatever they do.
_PLUMBING = ("Beginning flow run", "Finished in state")
_RAISED = re.compile(r"exception: (?:[\w.]+\.)?(\w+): (.*)", re.DOTALL)


def run_flow(
    api: str,
    name: str,
    parameters: Mapping[str, Any],
    key: str = "",
    follow: Callable[[str], None] = lambda _line: None,
) -> dict[str, Any]:
    """Run a deployment to its end.

    Args:
        api: Prefect's API address, ending in /api.
        name: Of the flow and of its deployment.
        parameters: Of the flow.
        key: The same key gives the same flow run; empty: a new one each time.
        follow: Hears each state and each line that the run logs.

    Returns:
        `flow_run_id`, `name`, `state`, `seconds`.

    Raises:
        Unavailable: Prefect's server does not answer, or nobody serves the deployment.
        HomeostatError: the flow failed; of the class that it raised, where that is one of ours.
    """
    with httpx.Client(
        base_url=api.rstrip("/"), timeout=_SECONDS, trust_env=False, verify=has_certificate(api)
    ) as http:
        deployment = _call(http, "GET", f"/deployments/name/{name}/{name}")
        if deployment.get("status") != "READY":
            raise Unavailable(
                f"Nobody serves the deployment {name}/{name}.", remedy="Run `homeostat up`."
            )
        asked: dict[str, Any] = {
            "parameters": dict(parameters),
            "state": {"type": "SCHEDULED"},
            # Always one, so that asking again after a 503 starts nothing twice.
            "idempotency_key": f"cli:{name}:{key or uuid.uuid4().hex}",
        }
        run = _call(http, "POST", f"/deployments/{deployment['id']}/create_flow_run", asked)
        follow(f"flow run {run['name']}")
        state = _follow(http, str(run["id"]), follow)
        ended = _call(http, "GET", f"/flow_runs/{run['id']}")
    if state["type"] != "COMPLETED":
        raise _error_of(name, state)
    return {
        "flow_run_id": str(run["id"]),
        "name": str(run["name"]),
        "state": str(state["name"]),
        "seconds": float(ended.get("total_run_time") or 0.0),
    }


def _follow(http: httpx.Client, run_id: str, follow: Callable[[str], None]) -> dict[str, Any]:
    told, seen = "", 0
    while True:
        state: dict[str, Any] = _call(http, "GET", f"/flow_runs/{run_id}")["state"]
        if state["name"] != told:
            told = str(state["name"])
            follow(told.lower())
        for line in _logged(http, run_id, seen):
            seen += 1
            if line and not line.startswith(_PLUMBING):
                follow(f"  {line}")
        if state["type"] in _FINAL:
            return state
        time.sleep(_PAUSE)  # Prefect tells a client of its API nothing: it is asked again


def _logged(http: httpx.Client, run_id: str, seen: int) -> Iterator[str]:
    wanted = {
        "logs": {"flow_run_id": {"any_": [run_id]}, "level": {"ge_": 20}},
        "sort": "TIMESTAMP_ASC",
        "offset": seen,
    }
    for entry in _call(http, "POST", "/logs/filter", wanted):
        # A failed run's traceback is in Prefect's page; here its first line is enough.
        yield next(iter(str(entry["message"]).strip().splitlines()), "")


def _call(http: httpx.Client, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
    deadline = time.monotonic() + _BUSY_SECONDS
    try:
        answer = http.request(method, path, json=body)
        while answer.status_code in _BUSY and time.monotonic() < deadline:
            time.sleep(_PAUSE)  # its database is another writer's for a moment
            answer = http.request(method, path, json=body)
    except httpx.HTTPError as error:
        raise Unavailable(
            f"Prefect at {_shown(http)} does not answer: {str(error) or type(error).__name__}.",
            remedy="Start it with `homeostat up`.",
        ) from None
    if answer.status_code == 404 and path.startswith("/deployments/name/"):
        raise Unavailable(
            f"Prefect at {_shown(http)} does not know the deployment {path.split('/', 3)[3]}.",
            remedy="Start what serves it with `homeostat up`.",
        )
    if not answer.is_success:
        raise Unavailable(
            f"Prefect answered {answer.status_code} to {path}: {answer.text[:200]}",
            remedy="Look into its log.",
        )
    return answer.json()


def _shown(http: httpx.Client) -> str:
    return str(http.base_url).rstrip("/")


def _error_of(name: str, state: Mapping[str, Any]) -> HomeostatError:
    message = str(state.get("message") or state["name"])
    found = _RAISED.search(message)
    if found:
        kinds = {kind.__name__: kind for kind in _kinds(HomeostatError)}
        if kind := kinds.get(found[1]):
            return kind(found[2].strip())
    remedy = "Its page in Prefect and the log of the flows say more."
    return HomeostatError(f"The flow {name} ended as {state['name']}: {message}", remedy=remedy)


def _kinds(root: type[HomeostatError]) -> Iterator[type[HomeostatError]]:
    for kind in root.__subclasses__():
        yield kind
        yield from _kinds(kind)
