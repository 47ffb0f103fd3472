"""An alias that a gateway moved and died, or was cut off, before it noted that it had."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from homeostat.clock import utc_now
from homeostat.errors import Unavailable
from registry import connect, rollback, routing_history, sessions, transaction

if TYPE_CHECKING:
    from tests.integration.page.conftest import Person


def roll_back(person: Person) -> None:
    """Somebody gives the traffic back while no gateway runs."""
    with transaction(sessions(connect(person.settings.database))) as session:
        rollback(session, person.model, "ann", "meanwhile", {}, utc_now())


def actors(person: Person) -> list[str]:
    with transaction(sessions(connect(person.settings.database))) as session:
        return [one.actor for one in routing_history(session, person.model)]


def test_our_own_move_that_was_not_noted_is_no_order_to_undo_the_rollback_that_followed(
    someone: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def away(*_: object, **__: object) -> None:
        tried.append(True)
        raise Unavailable("The database is away.", remedy="Wait.")

    with monkeypatch.context() as patched, someone.gateway():
        first = someone.first_champion()
        second = someone.register("better", passed=True)
        patched.setattr("serving.pointers.note_made", away)
        someone.ask("promote", version=second, reason="it is better")
        someone.wait_for(lambda: tried)
        assert someone.aliases() == {"champion": second, "standby": first}
    roll_back(someone)
    with someone.gateway():
        someone.settled(first)
        assert someone.aliases() == {"champion": first}
        assert actors(someone) == ["unknown (MLflow)", "API", "ann"]
        assert "left to the person" not in someone.told()
        found = [line for line in someone.alias_lines() if line.after == f"champion={second}"]
        assert [(one.actor, "cut off before" in one.reason) for one in found] == [
            ("homeostat", True)
        ]


def test_what_a_person_moved_while_no_gateway_ran_is_an_order_though_an_older_routing_had_it(
    someone: Person,
) -> None:
    with someone.gateway():
        first = someone.first_champion()
        second = someone.register("better", passed=True)
        someone.alias("champion", second)
        someone.settled(second)
        someone.ask("rollback", reason="for the test")
        someone.settled(first)
        someone.wait_for(lambda: someone.aliases() == {"champion": first})
    someone.alias("champion", second)
    with someone.gateway():
        someone.settled(second)
        assert someone.aliases()["champion"] == second
