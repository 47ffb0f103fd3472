"""A PostgreSQL, or a client of it, that falls silent without a word: nobody waits for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.orm import Session, sessionmaker

from benchmarks.cuts import KINDS, Kind, Line
from homeostat.errors import Unavailable
from registry import connect, leases, sessions, transaction

pytestmark = pytest.mark.postgres

ANSWER_SECONDS = 2.0
SLACK_SECONDS = 8.0  # of a machine that has much else to do
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def database(new_postgres: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    with new_postgres() as url:
        yield url


@pytest.fixture
def line(database: str) -> Iterator[Line]:
    """A line to the database that can be cut."""
    made = Line(Path(str(make_url(database).query["host"])) / ".s.PGSQL.5432")
    yield made
    made.close()


@pytest.fixture
def far(database: str, line: Line) -> Iterator[sessionmaker[Session]]:
    """Sessions over the line."""
    engine = connect(over(line, database), answer_seconds=ANSWER_SECONDS)
    yield sessions(engine)
    engine.dispose()


@pytest.fixture
def near(database: str) -> Iterator[sessionmaker[Session]]:
    """Sessions that nothing cuts off."""
    engine = connect(database)
    yield sessions(engine)
    engine.dispose()


def over(line: Line, database: str, **query: str) -> str:
    address = make_url(database).set(host="127.0.0.1", port=line.port, query=query)
    return address.render_as_string(hide_password=False)


def ask(maker: sessionmaker[Session]) -> float:
    """Ask the database something; how long that took, whether it answered or not."""
    began = time.monotonic()
    try:
        with transaction(maker) as session:
            session.execute(text("SELECT 1"))
    except Unavailable:
        pass
    return time.monotonic() - began


@pytest.mark.parametrize("kind", KINDS)
def test_a_silent_server_counts_as_away_within_seconds_and_answers_after_the_cut(
    far: sessionmaker[Session], line: Line, kind: Kind
) -> None:
    assert ask(far) < SLACK_SECONDS
    line.cut(kind)
    began = time.monotonic()
    with pytest.raises(Unavailable), transaction(far) as session:
        session.execute(text("SELECT 1"))
    assert time.monotonic() - began < ANSWER_SECONDS + 3 + SLACK_SECONDS  # a statement, a try
    line.mend()
    until_answered(far, SLACK_SECONDS)


def until_answered(maker: sessionmaker[Session], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            with transaction(maker) as session:
                session.execute(text("SELECT 1"))
        except Unavailable:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def test_a_slow_statement_is_no_silence_for_who_set_no_limit(near: sessionmaker[Session]) -> None:
    with transaction(near) as session:
        session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": ANSWER_SECONDS + 0.5})


def test_while_the_server_is_silent_one_caller_waits_and_the_others_are_refused_at_once(
    far: sessionmaker[Session], line: Line
) -> None:
    line.cut("hole")
    ask(far)
    took: list[float] = []
    threads = [threading.Thread(target=lambda: took.append(ask(far))) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(seconds > 1.0 for seconds in took) <= 1, took


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_vanished_in_the_middle_of_an_act_holds_nobody_up(
    far: sessionmaker[Session], near: sessionmaker[Session], line: Line, kind: Kind
) -> None:
    """It has checked the lease in the transaction that acts, so that the lease is locked."""
    acting = far()
    token = leases.acquire(acting, "controller", "a", 15, NOON)
    assert token is not None
    acting.commit()
    leases.check(acting, "controller", token, NOON)
    line.cut(kind)
    began = time.monotonic()
    with transaction(near) as session:
        later = NOON + timedelta(seconds=16)
        assert leases.acquire(session, "controller", "b", 15, later) == token + 1
    assert time.monotonic() - began < ANSWER_SECONDS / 2 + SLACK_SECONDS
    acting.invalidate()


def test_a_write_that_the_network_brings_after_another_has_taken_over_changes_nothing(
    far: sessionmaker[Session], near: sessionmaker[Session], line: Line
) -> None:
    with transaction(near) as session:
        token = leases.acquire(session, "controller", "a", 15, NOON)
        assert token is not None
    refused = []

    def act() -> None:
        try:
            with transaction(far) as session:
                leases.check(session, "controller", token, NOON)
                line.cut("late")
                session.execute(text("UPDATE leases SET holder = 'a, too late'"))
        except Unavailable as error:
            refused.append(error)

    thread = threading.Thread(target=act)
    thread.start()
    deadline = time.monotonic() + SLACK_SECONDS
    while not line.is_cut:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with transaction(near) as session:  # waits for the lease's row, which is let go
        later = NOON + timedelta(seconds=16)
        assert leases.acquire(session, "controller", "b", 15, later) == token + 1
    line.mend()
    thread.join()
    assert refused
    with transaction(near) as session:
        holder = session.execute(text("SELECT holder FROM leases")).scalar_one()
    assert holder == "b"


def test_what_the_address_says_goes_before_our_limits(database: str, line: Line) -> None:
    engine = connect(over(line, database, tcp_user_timeout="77", keepalives_idle="9"))
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        found = driver.info.get_parameters()
    engine.dispose()
    assert (found["tcp_user_timeout"], found["keepalives_idle"]) == ("77", "9")
    assert found["keepalives_interval"] == "1"
