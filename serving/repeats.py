"""Requests that a client repeats under one key: answered and logged once, however often they come.

A caller whose answer was lost cannot know whether its rows were logged. With the header
`Idempotency-Key` it asks again and gets the first answer, byte for byte: the same prediction ids. A
repeat that overtakes its first waits for it. Errors are not kept: what failed is done anew.

This process remembers its own answers, for `SECONDS` and within `MOST_BYTES`; another gateway of
the installation does not know them.

References:
    *The Idempotency-Key HTTP Header Field*, IETF draft-ietf-httpapi-idempotency-key-header.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from homeostat.errors import InvalidRequest
from serving.batching import Reply

HEADER = b"idempotency-key"
SECONDS = 600.0  # that an answer is remembered
MOST_BYTES = 32 * 1024 * 1024  # of answers
LONGEST_KEY = 200  # bytes

Which = tuple[str, str, bytes]  # caller, model, key


@dataclass
class _Kept:
    print: bytes  # of the body that it is the answer of
    answer: asyncio.Task[Reply]
    until: float
    size: int = 0


class Repeats:
    """Remembers answers by caller, model and key. Used by the event loop alone.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[Which, _Kept] = OrderedDict()
        self._bytes = 0

    async def once(
        self, which: Which, body: bytes, work: Callable[[], Coroutine[None, None, Reply]]
    ) -> Reply:
        """The answer to a request: of its first time, or of `work`, done now.

        Raises:
            InvalidRequest: the key is none, or was given with another body.
            HomeostatError: as `work`; nothing is remembered then.
        """
        key = which[2]
        if not 0 < len(key) <= LONGEST_KEY:
            raise InvalidRequest(
                f"The Idempotency-Key has {len(key)} bytes.",
                remedy=f"Send 1 to {LONGEST_KEY}, another one for each request: a UUID, say.",
            )
        self._forget()
        fingerprint = hashlib.sha256(body).digest()
        known = self._kept.get(which)
        if known is not None:
            if known.print != fingerprint:
                raise InvalidRequest(
                    "This Idempotency-Key was given with another body before.",
                    remedy="Send a new key with a new request.",
                )
            # Shielded: who leaves while it waits must not take the answer from the others.
            return await asyncio.shield(known.answer)
        task = asyncio.create_task(work())  # it goes on where its first caller leaves
        self._kept[which] = _Kept(fingerprint, task, self._clock() + SECONDS)
        task.add_done_callback(lambda done: self._note(which, done))
        return await asyncio.shield(task)

    def _note(self, which: Which, task: asyncio.Task[Reply]) -> None:
        """Count an answer's bytes; what failed is forgotten at once."""
        if task.cancelled() or task.exception() is not None:
            del self._kept[which]
            return
        kept = self._kept[which]
        kept.size = len(task.result().body)
        self._bytes += kept.size

    def _forget(self) -> None:
        """Let go of what is too old, and of the oldest where it is too much."""
        now = self._clock()
        while self._kept:
            which, oldest = next(iter(self._kept.items()))
            if not oldest.answer.done() or (now < oldest.until and self._bytes <= MOST_BYTES):
                return
            del self._kept[which]
            self._bytes -= oldest.size
