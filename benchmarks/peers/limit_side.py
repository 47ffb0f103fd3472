"""What Python itself allows here: a protocol that parses HTTP with httptools and says one thing.

No model, no JSON: the upper limit for any server written in Python, and the proof that the client
is not what is measured.
"""

from __future__ import annotations

import asyncio
from typing import cast

import httptools
import uvloop

from benchmarks.peers.digits import asked

ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n"
    b'{"prediction":0}'
)


class Limit(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to parse."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        """Parse some bytes."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Answer a whole request."""
        self._transport.write(ANSWER)


async def main() -> None:
    """Serve until ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Limit, "127.0.0.1", asked().port, backlog=256)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
