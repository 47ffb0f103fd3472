"""What a gateway listens on: its port, or one that it shares with others and one of its own.

The routes that act may have a port of their own beside it, which gateways share likewise.
"""

from __future__ import annotations

import socket

from homeostat.settings import Settings


def open_sockets(settings: Settings, replica: int) -> list[socket.socket]:
    """Sockets that are bound, and listen once the server starts on them.

    Args:
        settings: The hosts, and the ports of the gateway.
        replica: 1, 2, ...: of several that share the port, each with its own that many above it.
            The kernel deals new connections out to those that listen. 0: the only one.

    Raises:
        OSError: a port is taken, by somebody who does not share it.
    """
    found = [_bind(settings.host, settings.gateway_port, shared=replica > 0)]
    if port := settings.admin_port:
        found.append(_bind(settings.gateway_admin_host, port, shared=replica > 0))
    if replica:
        found.append(_bind(settings.host, settings.gateway_port + replica, shared=False))
    return found


def _bind(host: str, port: int, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound
