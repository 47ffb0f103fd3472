"""What `up` runs: each server with its command, its environment and how one knows it is ready."""

from __future__ import annotations

import http.client
import json
import sys
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from homeostat.errors import StartError
from homeostat.settings import Settings
from homeostat.supervisor.environment import own_environment, server_environment
from homeostat.supervisor.schema import is_current

DEPLOYMENTS = ("pipeline", "retrain", "rollback", "report", "digest")
_PROBE_SECONDS = 1.0
# No proxy stands between us and our own machine.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Part:
    """One server.

    Args:
        name: As in the log's name and in the table.
        address: Where a person or a program finds it; empty where it has none.
        argv: Its command; empty where the server is given and only waited for.
        env: Its environment.
        ready: Whether it answers as it must; may raise nothing. Takes when it was started.
        port_setting: The setting that moves its port; empty where it listens on none.
        port: What it listens on.
        shares: A port that it listens on together with others of its kind; 0: none.
        admin: A port besides, of the routes that act; 0: none.
        after: Names of the parts that must be ready before it is started.
        once: Whether it ends by itself, and is ready when it ended well.
    """

    name: str
    address: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    ready: Callable[[datetime], bool]
    port_setting: str = ""
    port: int = 0
    shares: int = 0
    admin: int = 0
    after: tuple[str, ...] = ()
    once: bool = False

    @property
    def ours(self) -> bool:
        """Whether `up` starts it."""
        return bool(self.argv)

    def log(self, state_dir: Path) -> Path:
        """Where what it prints goes."""
        return state_dir / "logs" / f"{self.name}.log"


def parts(settings: Settings, base: Mapping[str, str]) -> tuple[Part, ...]:
    """All servers in the order of their start.

    Args:
        settings: What to run, where.
        base: The environment to start from.
    """
    return (
        _prefect(settings, base),
        _flows(settings, base),
        _mlflow(settings, base),
        _database(settings, base),
        *_gateways(settings, base),
    )


def ports(settings: Settings) -> dict[int, Part]:
    """The ports that `up` listens on, each with a part that does.

    Raises:
        StartError: two parts would listen on one.
    """
    found: dict[int, Part] = {}
    listening = [part for part in parts(settings, {}) if part.ours and part.port]
    acting = [
        replace(part, port=part.admin, port_setting="gateway_admin_port")
        for part in listening
        if part.admin
    ]
    for part in listening + acting[:1]:  # several gateways share it
        if part.port in found:
            other = found[part.port]
            raise StartError(
                f"{part.name} and {other.name} would both listen on port {part.port}.",
                remedy=f"Set {part.port_setting} or {other.port_setting} to another port.",
                port=part.port,
            )
        found[part.port] = part
    return found | {part.shares: part for part in found.values() if part.shares}


def _mlflow(settings: Settings, base: Mapping[str, str]) -> Part:
    state = settings.state_dir.resolve()
    address = settings.mlflow_address.rstrip("/")

    def ready(_since: datetime) -> bool:
        return answers(f"{address}/health")

    if settings.mlflow_url:
        return Part("mlflow", address, (), {}, ready)
    argv = (
        *_module("homeostat.supervisor.mlflow_server"),
        *("--database", f"sqlite:///{state / 'mlflow.db'}"),
        *("--artifacts", str(state / "artifacts")),
        *("--host", settings.host, "--port", str(settings.mlflow_port)),
    )
    # Jobs and the AI gateway are processes and imports that nothing here uses.
    env = server_environment(settings, base) | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ENABLE_AI_GATEWAY": "false",
    }
    return Part("mlflow", address, argv, env, ready, "mlflow_port", settings.mlflow_port)


def _prefect(settings: Settings, base: Mapping[str, str]) -> Part:
    api = settings.prefect_address.rstrip("/")
    address = api.removesuffix("/api")

    def ready(_since: datetime) -> bool:
        return answers(f"{api}/health")

    if settings.prefect_url:
        return Part("prefect", address, (), {}, ready)
    argv = (
        *_module("homeostat.supervisor.prefect_server"),
        *("server", "start", "--host", settings.host, "--port", str(settings.prefect_port)),
    )
    env = server_environment(settings, base) | {
        "PREFECT_HOME": str(settings.state_dir.resolve() / "prefect"),
        # The page in the browser must find the API where we put it.
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    }
    return Part("prefect", address, argv, env, ready, "prefect_port", settings.prefect_port)


def _database(settings: Settings, base: Mapping[str, str]) -> Part:
    if is_current(settings.database):
        return Part("database", "", (), {}, lambda _since: True, once=True)
    # In a process of its own: what migrates need not stay in the supervisor's memory.
    argv = (*_module("homeostat"), "db", "upgrade")
    env = own_environment(settings, base)
    return Part("database", "", argv, env, lambda _since: False, once=True)


def _gateways(settings: Settings, base: Mapping[str, str]) -> tuple[Part, ...]:
    """The gateway, or several on one port that also have one each."""
    count, first = settings.gateway_replicas, settings.gateway_port
    if count == 1:
        return (_gateway(settings, base, "gateway", first, ()),)
    return tuple(
        replace(
            _gateway(settings, base, f"gateway-{n}", first + n, ("--replica", str(n))),
            shares=first,
        )
        for n in range(1, count + 1)
    )


def _gateway(
    settings: Settings, base: Mapping[str, str], name: str, port: int, words: tuple[str, ...]
) -> Part:
    address = f"http://{settings.host}:{port}"

    def ready(_since: datetime) -> bool:
        # Alive is enough: before the first `train` there is no version to be ready with.
        return answers(f"{address}/health/live")

    # Batches are small: more threads than one cost more than they bring, and starve the servers.
    env = own_environment(settings, base) | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    argv = (*_module("homeostat.supervisor.gateway_server"), *words)
    return Part(
        *(name, address, argv, env, ready, "gateway_port", port),
        admin=settings.admin_port,
        after=("database",),
    )


def _flows(settings: Settings, base: Mapping[str, str]) -> Part:
    api = settings.prefect_address.rstrip("/")

    def ready(since: datetime) -> bool:
        return deployments_polled(api, since)

    env = own_environment(settings, base)
    return Part("flows", "", _module("homeostat.supervisor.flows_server"), env, ready)


def answers(url: str) -> bool:
    """Whether a GET of `url` succeeds at once."""
    return _get(url) is not None


def deployments_polled(api: str, since: datetime) -> bool:
    """Whether somebody has asked Prefect for runs of each of our deployments after `since`."""
    for name in DEPLOYMENTS:
        body = _get(f"{api}/deployments/name/{name}/{name}")
        try:
            polled = json.loads(body or b"{}").get("last_polled")
        except ValueError:
            return False
        if not polled or datetime.fromisoformat(polled) < since:
            return False
    return True


def _get(url: str) -> bytes | None:
    # Not httpx: it makes a TLS context for each call, which costs more than a server's start.
    try:
        with _opener.open(url, timeout=_PROBE_SECONDS) as answer:
            body: bytes = answer.read()
    except (OSError, http.client.HTTPException, ValueError):
        return None
    return body


def _module(name: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", name)
