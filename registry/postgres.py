"""Connections to a PostgreSQL that may fall silent: what waits for it, and what it keeps waiting.

A server that is down refuses; a network that loses everything, or a pooler that hangs, says
nothing, and a call would wait for hours. So a connection hears of a dead network by the kernel's
means, of anything else that is silent by a limit of its own (`answer_seconds`), and while a server
was silent one caller tries at a time: the others are refused at once.

The server has the same trouble with a client that vanished: what its transaction holds, nobody
else gets. It ends a transaction in which the client does nothing, and asks the kernel as well.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.rows import TupleRow
from sqlalchemy import Engine, event

CONNECT_SECONDS = 5
EAGER_CONNECT_SECONDS = 3  # of who is to know soon: it tries again and again
SILENT_SECONDS = 10  # without a sign of the other machine's kernel: the connection is dead
AGAIN_SECONDS = 0.5  # between the end of a try that failed and the next one
# In the order of libpq's names; the server's own settings are called tcp_…
KEEPALIVES = {"keepalives_idle": 5, "keepalives_interval": 1, "keepalives_count": 5}


def prepare(engine: Engine, answer_seconds: float | None) -> None:
    """Let an engine of PostgreSQL make such connections; what its address says goes first.

    Args:
        engine: Not yet used.
        answer_seconds: How long a statement may say nothing, and half of it how long a transaction
            may do nothing; None: any time.
    """
    event.listen(engine, "do_connect", _Door(answer_seconds).connect)


class _Door:
    """Makes connections; at a server that was silent one at a time is tried."""

    def __init__(self, answer_seconds: float | None) -> None:
        self._answer_seconds = answer_seconds
        self._changing = threading.Lock()
        self._refusal = ""  # why the last try failed; empty: it did not
        self._again = 0.0
        self._trying = False

    def connect(
        self, _dialect: object, _record: object, arguments: list[Any], options: dict[str, Any]
    ) -> psycopg.Connection[TupleRow]:
        """As SQLAlchemy asks for it.

        Raises:
            OperationalError: the server refused, is silent, or was a moment ago.
        """
        eager = self._answer_seconds is not None
        options.setdefault("connect_timeout", EAGER_CONNECT_SECONDS if eager else CONNECT_SECONDS)
        options.setdefault("tcp_user_timeout", SILENT_SECONDS * 1000)
        for name, value in KEEPALIVES.items():
            options.setdefault(name, value)
        if eager:
            self._enter()
        refusal = "the last try was given up"
        try:
            connection = self._made(arguments, options)
            refusal = ""
        except psycopg.Error as error:
            refusal = str(error)
            raise
        finally:
            with self._changing:
                self._refusal, self._trying = refusal, False
                self._again = time.monotonic() + AGAIN_SECONDS
        return connection

    def _enter(self) -> None:
        with self._changing:
            if self._refusal and (self._trying or time.monotonic() < self._again):
                raise psycopg.OperationalError(self._refusal)
            self._trying = True

    def _made(self, arguments: list[Any], options: dict[str, Any]) -> psycopg.Connection[TupleRow]:
        settings = {f"tcp_{name}": value for name, value in KEEPALIVES.items()}
        if self._answer_seconds is None:
            connection = psycopg.Connection.connect(*arguments, **options)
        else:
            connection = _Bounded.connect(*arguments, **options)
            connection.answer_seconds = self._answer_seconds
            half = int(self._answer_seconds * 500)
            settings["idle_in_transaction_session_timeout"] = half
        # Not as options of the start: a pooler before the server would refuse them.
        said = "; ".join(f"SET {name} = {value}" for name, value in settings.items())
        try:
            connection.autocommit = True
            connection.execute(said.encode())
            connection.autocommit = False
        except BaseException:
            connection.close()
            raise
        return connection


class _Bounded(psycopg.Connection[TupleRow]):
    """A connection that is given up when it says nothing for so long."""

    answer_seconds: float = EAGER_CONNECT_SECONDS  # until it is set

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for an answer.

        Raises:
            OperationalError: nothing was heard; the connection is closed.
        """
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(_heard(gen, self.answer_seconds), interval)
        except _Silent:
            self.close()
            raise


class _Silent(psycopg.OperationalError):
    """Nothing was heard for too long."""


def _heard(gen: PQGen[RV], seconds: float) -> PQGen[RV]:
    """What a driver waits by, given up when nothing was ready for so long."""
    heard = time.monotonic()
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            now = time.monotonic()
            if ready:
                heard = now
            elif now - heard > seconds:
                raise _Silent(f"nothing was heard for {seconds:g} s")
            wanted = gen.send(ready)
    except StopIteration as done:
        found: RV = done.value
        return found
