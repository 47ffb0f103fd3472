"""Ports: whether ours are free before anything starts, and free ones for those who ask."""

from __future__ import annotations

import contextlib
import socket

import psutil

from homeostat.errors import StartError


def check_port(host: str, port: int, setting: str) -> None:
    """Refuse a port that something else listens on.

    Raises:
        StartError: it is taken, or the host is not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OverflowError:
            raise StartError(
                f"There is no port {port}.",
                remedy=f"Set {setting} (HOMEOSTAT_{setting.upper()}) to a lower one.",
                port=port,
            ) from None
        except OSError as error:
            raise StartError(
                f"Port {port} on {host} cannot be used{_holder(port)}: {error.strerror}.",
                remedy=f"Stop what holds it, or set {setting} (HOMEOSTAT_{setting.upper()}) to "
                "a free port.",
                port=port,
            ) from None


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Ports that nothing listens on now, all different."""
    with contextlib.ExitStack() as held:
        probes = [
            held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            for _ in range(count)
        ]
        for probe in probes:
            probe.bind((host, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _holder(port: int) -> str:
    """Who listens there, where we may know: ` by NAME (process N)`."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections(kind="tcp"):
            listens = connection.status == psutil.CONN_LISTEN
            if listens and connection.pid and connection.laddr and connection.laddr.port == port:
                name = psutil.Process(connection.pid).name()
                return f", held by {name} (process {connection.pid})"
    return ""
