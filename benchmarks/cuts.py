"""A line between a process and a server that can be cut: a proxy on a port of the loopback.

A line is cut in one of three ways:

    reset   open connections break at once, new ones are refused
    hole    what is sent vanishes, both ways and for good: a connection that was open during the
            cut, or was begun in it, never carries a byte again, and neither end is told
    late    what is sent waits and arrives after the cut, as a network sends it again

Of a hole the kernel tells nobody: what is sent is taken (by the proxy's end), no keepalive fails.
So it is also what a server, or a pooler before it, looks like that has stopped answering.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from pathlib import Path
from typing import Literal

Kind = Literal["reset", "hole", "late"]
KINDS: tuple[Kind, ...] = ("reset", "hole", "late")
_AT_ONCE = struct.pack("ii", 1, 0)  # a socket that is closed so resets its connection
_BYTES = 65536


class Line:
    """A proxy before a server that listens on a Unix socket.

    Args:
        server: The socket's file.
    """

    def __init__(self, server: Path) -> None:
        self._server = str(server)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._cut: Kind | None = None
        self._changing = threading.Condition()
        self._pairs: set[_Pair] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def is_cut(self) -> bool:
        """Whether nothing goes through."""
        return self._cut is not None

    def cut(self, kind: Kind) -> None:
        """Let nothing through any more."""
        with self._changing:
            self._cut = kind
            pairs = set(self._pairs)
        for pair in pairs:
            if kind == "hole":
                pair.lost = True
            elif kind == "reset":
                pair.reset()

    def mend(self) -> None:
        """Let everything through that is not lost."""
        with self._changing:
            self._cut = None
            self._changing.notify_all()

    def close(self) -> None:
        """End all of it."""
        self._listener.close()
        self.cut("reset")
        self.mend()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        pair = _Pair(client)
        with self._changing:
            self._pairs.add(pair)
            cut = self._cut
            pair.lost = cut == "hole"
        if cut == "reset":
            pair.reset()
        elif cut is None or self._waited(pair):
            self._connect(pair)

    def _connect(self, pair: _Pair) -> None:
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self._server)
        except OSError:
            pair.reset()
            return
        pair.server = server
        back = threading.Thread(target=self._carry, args=(server, pair.client, pair), daemon=True)
        back.start()
        self._carry(pair.client, server, pair)
        back.join()
        if not pair.lost:  # of one that is, no end is to hear
            with self._changing:
                self._pairs.discard(pair)
            pair.close()

    def _carry(self, source: socket.socket, target: socket.socket, pair: _Pair) -> None:
        """Bring on what comes, until one end closes: the other end then hears of it as well."""
        with contextlib.suppress(OSError):
            while data := source.recv(_BYTES):
                if not self._waited(pair):
                    return
                target.sendall(data)
        if self._waited(pair):
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_WR)

    def _waited(self, pair: _Pair) -> bool:
        """Wait for the end of a cut; whether anything may go through then."""
        with self._changing:
            self._changing.wait_for(lambda: self._cut != "late" or pair.lost)
        return not pair.lost


class _Pair:
    """One connection: the client's end, and ours to the server."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.server: socket.socket | None = None
        self.lost = False

    def reset(self) -> None:
        """Break it for both ends at once."""
        self.lost = True
        with contextlib.suppress(OSError):
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.close()

    def close(self) -> None:
        """Close both ends."""
        for end in (self.client, self.server):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads it
                end.close()
