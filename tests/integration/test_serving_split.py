"""A gateway that is cut from the database for five minutes: no decision is made twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from homeostat.policy import Policy
from registry import routing_history, transaction, verify_ledger
from registry.losses import LabelledLoss
from serving.gateway import Gateway

if TYPE_CHECKING:
    from tests.integration.conftest import HandClock, Station

SPLIT_SECONDS, LOOK_SECONDS = 300, 5


@contextmanager
def cut(gateway: Gateway) -> Iterator[None]:
    """No statement of a gateway reaches its database meanwhile."""

    def refuse(*_: object) -> None:
        raise OperationalError("the network", None, Exception("is cut"))

    event.listen(gateway._engine, "before_cursor_execute", refuse)
    try:
        yield
    finally:
        event.remove(gateway._engine, "before_cursor_execute", refuse)


@pytest.fixture
def two(
    station: Callable[..., Station], hand_clock: HandClock
) -> Iterator[tuple[Station, Gateway, Gateway]]:
    """Two gateways on one database; the first one acts. Version 2 answers, 1 stands by."""
    here = station(Policy())
    here.serve(1, hand_clock())
    here.serve(2, hand_clock())
    with ExitStack() as stack:
        acting, other = (Gateway(here.settings, hand_clock) for _ in range(2))
        for gateway in (acting, other):
            stack.callback(gateway.stop)
            gateway.controller.look()
        yield here, acting, other


def served(gateway: Gateway) -> int:
    return gateway.fleet.serving("digits").champion.version


def falls(gateway: Gateway, clock: HandClock) -> None:
    """Labels that ask for a rollback, as this gateway alone knows them."""
    rows = [LabelledLoss(clock(), {1: 0.0, 2: 1.0}) for _ in range(60)]
    gateway.watches["digits"].label(rows)
    gateway.controller.look()


def test_what_a_cut_off_gateway_knows_moves_nothing_until_it_is_back(
    two: tuple[Station, Gateway, Gateway], hand_clock: HandClock
) -> None:
    here, acting, other = two
    assert (acting.lease.held, other.lease.held) == (True, False)
    with cut(acting):
        falls(acting, hand_clock)
        assert (served(acting), served(other)) == (2, 2)
        for _ in range(SPLIT_SECONDS // LOOK_SECONDS):
            hand_clock.advance(LOOK_SECONDS)
            acting.controller.look()
            other.controller.look()
        assert (acting.lease.held, other.lease.held) == (False, True)
        assert (served(acting), served(other)) == (2, 2)
        assert here.routing().generation == 2
    acting.controller.look()  # what the labels asked for is done once it can be written
    other.controller.look()
    assert (served(acting), served(other)) == (1, 1)
    assert here.routing().actor == "guard"
    assert (acting.lease.held, other.lease.held) == (False, True)


def test_the_other_side_decides_alone_and_the_cut_off_one_follows_and_decides_no_more(
    two: tuple[Station, Gateway, Gateway], hand_clock: HandClock
) -> None:
    here, acting, other = two
    with cut(acting):
        other.moves.request("digits", 3, "ann", "it is better", override=True)
        falls(acting, hand_clock)  # about version 2, which is champion no more
        for _ in range(SPLIT_SECONDS // LOOK_SECONDS):
            hand_clock.advance(LOOK_SECONDS)
            acting.controller.look()
            other.controller.look()
        assert (served(acting), served(other)) == (2, 3)
    acting.controller.look()
    assert (served(acting), served(other)) == (3, 3)
    for _ in range(3):
        hand_clock.advance(LOOK_SECONDS)
        acting.controller.look()
        other.controller.look()
    with transaction(other.parts.reader) as session:
        actors = [one.actor for one in routing_history(session, "digits")]
        assert actors == ["test", "test", "ann"]
        assert verify_ledger(session, "digits").intact
    assert here.routing().champion == 3
