"""Calls to addresses that somebody set: none reaches what only our own machine should reach.

An address in the settings may be wrong, and a name may be made to point elsewhere (SSRF). So the
name is resolved here, every address that it has is checked, and the connection goes to one of the
checked addresses: asking again would let the answer change in between (DNS rebinding). Redirects
are not followed, and no proxy of the environment is asked.
"""

from __future__ import annotations

import base64
import ipaddress
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import httpcore
import httpx

from monitoring.alerts import failed

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Where clouds give credentials to whoever asks, at addresses that look like others.
METADATA = frozenset({"100.100.100.200", "168.63.129.16", "169.254.169.254", "192.0.0.192"})
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Forbidden(Exception):
    """An address that may not be called; the text says which, and what would allow it."""


class Unanswered(Exception):
    """No answer that can be used; the text says why."""


@dataclass(frozen=True)
class Guard:
    """Which addresses may be called besides those of the public internet.

    Args:
        allowed: Names (`am.example.org`, or `.svc.cluster.local` for all below), addresses and
            networks (`10.0.0.0/8`).
        loopback: Whether this machine itself may be called.
    """

    allowed: tuple[str, ...] = ()
    loopback: bool = False

    def addresses(self, host: str, port: int) -> list[str]:
        """What a host resolves to, each address checked.

        Raises:
            Forbidden: one of them may not be called.
            OSError: it does not resolve.
        """
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        if not self._is_named(host):
            for one in addresses:
                self._check(host, one)
        return addresses

    def _check(self, host: str, text: str) -> None:
        address = _inner(ipaddress.ip_address(text.split("%")[0]))
        if any(address in network for network in _networks(self.allowed)):
            return
        if address.is_loopback and self.loopback:
            return
        if address.is_global and not address.is_multicast and str(address) not in METADATA:
            return
        raise Forbidden(
            f"{host} is {text}, which is not of the public internet: where that is meant, add "
            f"it to `alerting.allow_hosts`"
        )

    def _is_named(self, host: str) -> bool:
        name = host.lower().rstrip(".")
        return any(
            name == one.lower() or (one.startswith(".") and name.endswith(one.lower()))
            for one in self.allowed
        )


@dataclass(frozen=True)
class Sending:
    """How alerts leave this installation.

    Args:
        guard: Which addresses may be called.
        webhook_secret: What webhooks are signed with; empty: they are not.
        pagerduty_url: The base address of PagerDuty's Events API.
        runbooks_url: Where runbooks are published; empty: alerts name their path in the repository.
        page_url: Where people reach the gateway's page; empty: alerts do not link it.
    """

    guard: Guard = Guard()
    webhook_secret: str = ""
    pagerduty_url: str = "https://events.pagerduty.com"
    runbooks_url: str = ""
    page_url: str = ""


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    guard: Guard,
    timeout: float,
    *,
    shown: str = "",
) -> None:
    """POST once.

    Args:
        url: http or https; a user and password in it become basic authentication.
        body: What to send.
        headers: Besides `Host`, `Content-Length` and `Authorization`.
        guard: Which addresses may be called.
        timeout: Seconds for connecting, and between two bytes.
        shown: The address as errors have it, where that is another one.

    Raises:
        DeliveryFailed: nobody answered, not with 2xx, or the address may not be called.
    """
    try:
        status, _ = ask("POST", url, guard, timeout, headers, body)
    except Unanswered as error:
        raise failed(shown or url, str(error)) from None
    if 300 <= status < 400:
        raise failed(shown or url, f"it answered {status}, and redirects are not followed")
    if not 200 <= status < 300:
        raise failed(shown or url, f"it answered {status}")


def ask(
    method: str,
    url: str,
    guard: Guard,
    timeout: float,
    headers: Mapping[str, str] = MappingProxyType({}),
    body: bytes = b"",
    longest: int = 0,
) -> tuple[int, bytes]:
    """Ask once.

    Args:
        method: GET or POST.
        url: http or https; a user and password in it become basic authentication.
        guard: Which addresses may be called.
        timeout: Seconds for connecting, and between two bytes.
        headers: Besides `Host`, `Content-Length` and `Authorization`.
        body: What to send.
        longest: How many bytes of the answer are read; it may be endless. 0: none.

    Returns:
        The status, and the answer.

    Raises:
        Unanswered: nobody answered, or with more, or the address may not be called.
    """
    try:
        return _ask(method, url, guard, timeout, headers, body, longest)
    except Forbidden as error:
        raise Unanswered(str(error)) from None
    except httpcore.ConnectError as error:  # of the host alone, which errors show
        raise Unanswered(f"ConnectError ({error})") from None
    except (
        httpcore.NetworkError,
        httpcore.TimeoutException,
        httpcore.ProtocolError,
        httpcore.UnsupportedProtocol,
        httpx.InvalidURL,
        OSError,
    ) as error:
        raise Unanswered(type(error).__name__) from None


def _ask(
    method: str,
    url: str,
    guard: Guard,
    timeout: float,
    headers: Mapping[str, str],
    body: bytes,
    longest: int,
) -> tuple[int, bytes]:
    at = httpx.URL(url)
    target = httpcore.URL(scheme=at.raw_scheme, host=at.raw_host, port=at.port, target=at.raw_path)
    whole = {"Host": at.netloc.decode(), **headers}
    if method == "POST":
        whole["Content-Length"] = str(len(body))
    if at.userinfo:
        token = base64.b64encode(f"{at.username}:{at.password}".encode()).decode()
        whole["Authorization"] = f"Basic {token}"
    limits = dict.fromkeys(("connect", "read", "write", "pool"), timeout)
    tls = httpx.create_ssl_context() if at.scheme == "https" else None  # 40 ms of processor time
    with (
        httpcore.ConnectionPool(ssl_context=tls, network_backend=_Guarded(guard)) as pool,
        pool.stream(
            method,
            target,
            headers=list(whole.items()),
            content=body,
            extensions={"timeout": limits},
        ) as answer,
    ):
        read = b""
        for part in answer.iter_stream() if longest else ():
            read += part
            if len(read) > longest:
                raise Unanswered(f"it answered with more than {longest} bytes")
        return answer.status, read


class _Guarded(httpcore.SyncBackend):
    """Connects to checked addresses only; TLS goes on being about the host's name."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            addresses = self._guard.addresses(host, port)
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from None
        for one in addresses[:-1]:
            try:
                return super().connect_tcp(one, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return super().connect_tcp(addresses[-1], port, timeout, local_address, socket_options)


def _networks(allowed: Iterable[str]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    found = []
    for one in allowed:
        try:
            found.append(ipaddress.ip_network(one, strict=False))
        except ValueError:
            continue  # a name
    return found


def _inner(address: Address) -> Address:
    """The address that is meant: an IPv6 address may carry one of IPv4."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo[1] if address.teredo else None
    return address.ipv4_mapped or address.sixtofour or teredo or address
