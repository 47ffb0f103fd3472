"""The light client: predictions and labels, in this thread or asynchronously. Needs httpx alone."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
import uuid
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from homeostat.addresses import has_certificate
from homeostat.client.answers import (
    Json,
    Labelled,
    Prediction,
    checked,
    labelled_of,
    predictions_of,
)
from homeostat.client.retrying import Tries
from homeostat.errors import Unavailable

ADDRESS = "http://127.0.0.1:8000"
FROM_ENVIRONMENT = "HOMEOSTAT_TOKEN"
ATTEMPTS = 4
SECONDS = 30.0
SIZE = 256  # rows of one request of a batch
TOGETHER = 4  # requests of a batch under way

Labels = Mapping[str, Any] | Sequence[Mapping[str, Any]]
Entity = str | Sequence[str] | None


class _Asking:
    """What both clients have: where, as whom, how often."""

    def __init__(
        self,
        address: str = ADDRESS,
        token: str | None = None,
        *,
        timeout: float = SECONDS,
        attempts: int = ATTEMPTS,
    ) -> None:
        self.address = address
        self._attempts, self._seconds = attempts, timeout
        token = os.environ.get(FROM_ENVIRONMENT, "") if token is None else token
        self._settings: dict[str, Any] = {
            "base_url": address,
            "headers": {"Authorization": f"Bearer {token}"} if token else {},
            "timeout": timeout,
            "verify": has_certificate(address),
            "trust_env": False,  # a token goes through no proxy that the environment names
        }

    def _tries(self, *, again: bool) -> Tries:
        return Tries(self._attempts, again, self._seconds)

    def _away(self, error: httpx.HTTPError) -> Unavailable:
        cause = str(error) or type(error).__name__
        return Unavailable(
            f"The gateway at {self.address} does not answer: {cause}.",
            remedy="See that it runs and that this is its address.",
        )


class Client(_Asking):
    """Asks a gateway, one request at a time.

    Args:
        address: Of the gateway.
        token: The bearer token; None: of the environment variable HOMEOSTAT_TOKEN.
        timeout: Seconds for one answer, and for all attempts together.
        attempts: At most so many for one request: `homeostat.client.retrying` says when.
        transport: Another way to send, for tests.
    """

    def __init__(
        self,
        address: str = ADDRESS,
        token: str | None = None,
        *,
        timeout: float = SECONDS,
        attempts: int = ATTEMPTS,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(address, token, timeout=timeout, attempts=attempts)
        self._http = httpx.Client(transport=transport, **self._settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def predict(
        self,
        model: str,
        rows: Sequence[Any],
        *,
        entity: Entity = None,
        version: int | None = None,
        again: bool = False,
    ) -> list[Prediction]:
        """A prediction for each row, in order.

        Args:
            model: Its name.
            rows: As the model takes them: lists of numbers, or tables of columns.
            entity: Whose rows, one for all or one for each: keeps them on one version.
            version: Which is to answer; None: whichever the routing says.
            again: Whether to ask again where an answer was lost. A key goes with it, so that the
                gateway which answered gives the same answer and logs the rows once; another
                process of the installation, if the repeat reaches one, logs them a second time.

        Raises:
            HomeostatError: as the gateway answered; Unavailable where it does not.
        """
        path, body, headers = _asked(model, rows, entity, version, again)
        return predictions_of(self._send(path, body, headers, again=again))

    def batch(
        self,
        model: str,
        rows: Iterable[Any],
        *,
        size: int = SIZE,
        version: int | None = None,
        again: bool = False,
    ) -> Iterator[Prediction]:
        """Predictions of any number of rows, in order, asked `size` at a time as they are taken."""
        for part in _parts(rows, size):
            yield from self.predict(model, part, version=version, again=again)

    def label(self, labels: Labels) -> list[Labelled]:
        """Send truths: again is as once, so it is repeated whatever was lost.

        Args:
            labels: Truth by prediction id, or tables of `id`, `label` and, if you like, `source`
                and `revise`.

        Returns:
            What became of each, in order.

        Raises:
            HomeostatError: the request as a whole was refused; Unavailable where nobody answers.
        """
        return labelled_of(self._send("/v1/labels", _truths(labels), {}, again=True))

    def _send(self, path: str, body: Json, headers: Mapping[str, str], *, again: bool) -> Json:
        tries = self._tries(again=again)
        while True:
            try:
                answer = self._http.post(path, json=body, headers=headers)
            except httpx.HTTPError as error:
                if (wait := tries.after(error)) is None:
                    raise self._away(error) from None
            else:
                if answer.is_success or (wait := tries.after(answer)) is None:
                    return _taken(answer)
            time.sleep(wait)  # what the gateway asked for, or the back-off: see `retrying`


class AsyncClient(_Asking):
    """Asks a gateway without waiting in the thread; else as `Client`.

    Args:
        address: Of the gateway.
        token: The bearer token; None: of the environment variable HOMEOSTAT_TOKEN.
        timeout: Seconds for one answer, and for all attempts together.
        attempts: At most so many for one request.
        connections: At most so many at a time.
        transport: Another way to send, for tests.
    """

    def __init__(
        self,
        address: str = ADDRESS,
        token: str | None = None,
        *,
        timeout: float = SECONDS,
        attempts: int = ATTEMPTS,
        connections: int = 100,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(address, token, timeout=timeout, attempts=attempts)
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx.AsyncClient(transport=transport, limits=limits, **self._settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def predict(
        self,
        model: str,
        rows: Sequence[Any],
        *,
        entity: Entity = None,
        version: int | None = None,
        again: bool = False,
    ) -> list[Prediction]:
        """As `Client.predict`."""
        path, body, headers = _asked(model, rows, entity, version, again)
        return predictions_of(await self._send(path, body, headers, again=again))

    async def batch(
        self,
        model: str,
        rows: Iterable[Any],
        *,
        size: int = SIZE,
        together: int = TOGETHER,
        version: int | None = None,
        again: bool = False,
    ) -> AsyncGenerator[Prediction, None]:
        """As `Client.batch`, in order too, with `together` requests under way at a time."""
        parts = _parts(rows, size)
        asked: list[asyncio.Task[list[Prediction]]] = []
        try:
            while True:
                for part in itertools.islice(parts, together - len(asked)):
                    coming = self.predict(model, part, version=version, again=again)
                    asked.append(asyncio.create_task(coming))
                if not asked:
                    return
                for one in await asked.pop(0):
                    yield one
        finally:  # who stops taking stops asking
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def label(self, labels: Labels) -> list[Labelled]:
        """As `Client.label`."""
        return labelled_of(await self._send("/v1/labels", _truths(labels), {}, again=True))

    async def _send(
        self, path: str, body: Json, headers: Mapping[str, str], *, again: bool
    ) -> Json:
        tries = self._tries(again=again)
        while True:
            try:
                answer = await self._http.post(path, json=body, headers=headers)
            except httpx.HTTPError as error:
                if (wait := tries.after(error)) is None:
                    raise self._away(error) from None
            else:
                if answer.is_success or (wait := tries.after(answer)) is None:
                    return _taken(answer)
            await asyncio.sleep(wait)


def _asked(
    model: str, rows: Sequence[Any], entity: Entity, version: int | None, again: bool
) -> tuple[str, Json, dict[str, str]]:
    body: Json = {"rows": list(rows)}
    if entity is not None:
        body["entity"] = entity if isinstance(entity, str) else list(entity)
    headers = {} if version is None else {"X-Homeostat-Version": str(version)}
    if again:
        headers["Idempotency-Key"] = str(uuid.uuid4())
    return f"/v1/models/{quote(model, safe='')}/predict", body, headers


def _truths(labels: Labels) -> Json:
    if isinstance(labels, Mapping):
        return {"labels": [{"id": key, "label": value} for key, value in labels.items()]}
    return {"labels": [dict(one) for one in labels]}


def _parts(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    left = iter(rows)
    while part := list(itertools.islice(left, size)):
        yield part


def _taken(answer: httpx.Response) -> Json:
    """The answer; where some labels were not taken, still what became of each."""
    try:
        said = answer.json()
    except ValueError:
        said = None
    if isinstance(said, dict) and "results" in said:
        return said
    return checked(answer)
