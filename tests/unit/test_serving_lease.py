from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from homeostat.clock import utc_now
from homeostat.errors import Refused
from serving.lease import Lease


class Gauge:
    def set(self, _value: float) -> None: ...


@contextmanager
def writing() -> Iterator[None]:
    yield


def test_who_finds_an_old_lease_lost_leaves_the_new_one_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two threads of one gateway: one takes the lease again while the other still looks."""
    parts: Any = SimpleNamespace(
        writing=writing, clock=utc_now, metrics=SimpleNamespace(lease=Gauge())
    )
    lease = Lease(parts)
    tokens = iter([1, 2])
    monkeypatch.setattr("registry.leases.acquire", lambda *_: next(tokens))
    assert lease.hold()

    def ran_out(*_: object) -> None:
        assert lease.hold()
        raise Refused("It ran out.")

    with monkeypatch.context() as patched:
        patched.setattr("registry.leases.check", ran_out)
        with pytest.raises(Refused):
            lease.check()
    assert lease.held

    monkeypatch.setattr("registry.leases.check", lambda *_: refuse())
    with pytest.raises(Refused):
        lease.check()
    assert not lease.held


def refuse() -> None:
    raise Refused("It ran out.")
