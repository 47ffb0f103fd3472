"""Which addresses may be called."""

from __future__ import annotations

import socket

import pytest

from homeostat.setting_tables import AlertingSettings
from homeostat.settings import Settings
from monitoring.outbound import Forbidden, Guard
from serving.courier import sending_of


def resolves_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 80)) for one in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.7",
        "172.16.0.1",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "224.0.0.1",
        "::1",
        "0:0:0:0:0:0:0:0",
        "0.1.2.3",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "::ffff:10.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
    ],
)
def test_addresses_that_only_this_machine_reaches_are_refused(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolves_to(monkeypatch, address)
    with pytest.raises(Forbidden, match="is not of the public internet: where that is meant, add"):
        Guard().addresses("sneaky.example.org", 80)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700::1111"])
def test_the_public_internet_may_be_called(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resolves_to(monkeypatch, address)
    assert Guard().addresses("example.org", 443) == [address]


def test_a_name_with_one_private_address_among_public_ones_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolves_to(monkeypatch, "93.184.215.14", "10.0.0.1")
    with pytest.raises(Forbidden, match=r"10\.0\.0\.1"):
        Guard().addresses("example.org", 80)


@pytest.mark.parametrize(
    ("allowed", "host", "passes"),
    [
        (("10.0.0.0/8",), "am", True),
        (("10.1.2.3",), "am", True),
        (("10.2.0.0/16",), "am", False),
        (("am.monitoring.svc",), "AM.monitoring.svc.", True),
        (("am.monitoring.svc",), "evil.am.monitoring.svc", False),
        ((".svc.cluster.local",), "am.ops.svc.cluster.local", True),
        ((".svc.cluster.local",), "amsvc.cluster.local", False),
    ],
)
def test_the_allow_list_opens_names_addresses_and_networks(
    allowed: tuple[str, ...], host: str, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolves_to(monkeypatch, "10.1.2.3")
    if passes:
        assert Guard(allowed).addresses(host, 9093) == ["10.1.2.3"]
    else:
        with pytest.raises(Forbidden):
            Guard(allowed).addresses(host, 9093)


def test_this_machine_is_called_only_where_the_gateway_listens_on_it_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolves_to(monkeypatch, "127.0.0.1")
    assert Guard(loopback=True).addresses("localhost", 80) == ["127.0.0.1"]
    resolves_to(monkeypatch, "10.0.0.1")
    with pytest.raises(Forbidden):
        Guard(loopback=True).addresses("inner", 80)


def test_the_settings_say_what_may_be_called() -> None:
    alerting = AlertingSettings(allow_hosts=("am.internal",), page_url="https://page.example.org")
    found = sending_of(Settings(alerting=alerting))
    assert found.guard == Guard(("am.internal",), loopback=True)
    assert found.page_url == "https://page.example.org"
    beyond = sending_of(Settings(host="10.0.0.5"))
    assert beyond.guard == Guard((), loopback=False)
