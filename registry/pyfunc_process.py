"""The process that a pyfunc model runs in: reads frames of columns, answers frames of values.

Run by path and in isolation (`python -I registry/pyfunc_process.py FD FOLDER`), with an empty
environment: it imports nothing of ours, and knows no token, database or address. What it loads is
somebody else's code, so everything that can be closed is closed before it is loaded.

A frame is its length in four bytes (big endian) and one MessagePack value:

    asked     {"columns": {NAME: COLUMN}, "tensor": DTYPE or ""}
              where COLUMN is {"kind": DTYPE, "data": bytes} or a list of texts, null for missing
    answered  {"kind": DTYPE, "shape": [N] or [N, C], "data": bytes}
              or {"values": [...]}, or {"error": text}

The first frame is sent unasked when the model is loaded: {"classes": [...], "user": "nobody"}.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import resource
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

MAX_FRAME = 64 * 1024 * 1024
MAX_ERROR = 2000  # characters of it that are told
NOBODY = 65_534
MEMORY = 8 * 1024**3  # of address space, of which the libraries reserve more than they use
FILE_SIZE = 64 * 1024 * 1024
OPEN_FILES = 512
NO_NEW_PRIVILEGES, DUMPABLE = 38, 4  # of prctl
NEW_NAMESPACE, BIND, RECURSIVE, PRIVATE = 0x20000, 4096, 16384, 1 << 18  # of unshare and mount


def main(descriptor: int, folder: str) -> None:
    """Load the model of a folder and answer until the other end is closed."""
    link = socket.socket(fileno=descriptor)
    _be_no_batch_job()
    droppable = os.getuid() == 0 and _let_everybody_read([*_python(), str(Path(folder).parent)])
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    import mlflow.pyfunc

    _close_down(Path(folder), drop=droppable)
    try:
        model = mlflow.pyfunc.load_model(folder)
    except BaseException as error:  # noqa: BLE001 - it is somebody else's code
        _send(link, {"error": _told(error)})
        return
    _send(link, {"classes": _classes(model), "user": pwd.getpwuid(os.getuid()).pw_name})
    while (asked := _receive(link)) is not None:
        try:
            answer = _answer(model.predict(_rows(asked)))
        except BaseException as error:  # noqa: BLE001 - and so may raise anything
            answer = {"error": _told(error)}
        _send(link, answer)


def _be_no_batch_job() -> None:
    """Callers wait for what is answered here, whatever thread of the gateway has started it."""
    if hasattr(os, "SCHED_BATCH") and os.sched_getscheduler(0) == os.SCHED_BATCH:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _end_with(parent: int) -> None:
    """End when the gateway has: its end of the link closes too, but a busy model would not see."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _close_down(folder: Path, *, drop: bool) -> None:
    libc = ctypes.CDLL(None)
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    for limit, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, FILE_SIZE),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
    ):
        hard = resource.getrlimit(limit)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (most, most))
    if drop:
        for path in (folder.parent, folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    libc.prctl(DUMPABLE, 0, 0, 0, 0)  # last: whether it holds is decided anew with each user


def _python() -> list[str]:
    """Where Python and what it imports lie."""
    return [sys.prefix, sys.base_prefix, *(path for path in sys.path if Path(path).exists())]


def _let_everybody_read(paths: list[str]) -> bool:
    """Make folders reachable for a user without rights, in this process alone; False: it cannot.

    A Python below /root is behind a door that only root opens. In a mount namespace of our own
    an empty folder is put over that door, and in it, at their old places, only the paths.
    Before there is a second thread: a namespace is a thread's own. The last path is the model's
    own folder, which will belong to that user.
    """
    whole = [Path(path).resolve() for path in paths]
    doors = {door for path in whole if (door := _closed_above(path)) is not None}
    if not doors:
        return all(path.stat().st_mode & 0o005 for path in whole[:-1])
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_NAMESPACE) or libc.mount(b"none", b"/", None, RECURSIVE | PRIVATE, None):
        return False  # no right to it, as in most containers
    behind = {path: os.open(path, os.O_PATH) for path in whole if doors & set(path.parents)}
    try:
        for door in sorted(doors):
            if libc.mount(b"tmpfs", os.fsencode(door), b"tmpfs", 0, b"mode=755"):
                return False
        for path, opened in sorted(behind.items()):
            if path.exists():  # within one that is there already
                continue
            path.mkdir(parents=True)
            source = f"/proc/self/fd/{opened}".encode()
            if libc.mount(source, os.fsencode(path), None, BIND | RECURSIVE, None):
                return False
    finally:
        for opened in behind.values():
            os.close(opened)
    return all(path.stat().st_mode & 0o005 for path in whole[:-1])


def _closed_above(path: Path) -> Path | None:
    """The topmost folder on the way to a path that not everybody may pass."""
    return next((door for door in reversed(path.parents) if not door.stat().st_mode & 0o001), None)


def _rows(asked: dict[str, Any]) -> Any:  # noqa: ANN401 - a table or an array
    import numpy as np
    import pandas as pd

    columns = {
        name: np.frombuffer(given["data"], given["kind"])
        if isinstance(given, dict)
        else pd.Series(given, dtype=object)
        for name, given in asked["columns"].items()
    }
    if asked["tensor"]:
        return np.column_stack(list(columns.values())).astype(asked["tensor"])
    return pd.DataFrame(columns)


def _answer(found: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever the model gave
    import numpy as np

    values = np.asarray(found)
    if values.dtype.kind in "biuf":
        values = values.astype(values.dtype.newbyteorder("="))
        return {"kind": values.dtype.str, "shape": values.shape, "data": values.tobytes()}
    return {"values": [_plain(value) for value in values.ravel().tolist()]}


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _classes(model: Any) -> list[Any]:  # noqa: ANN401 - a pyfunc model
    with contextlib.suppress(Exception):
        return [_plain(name) for name in model.get_raw_model().classes_.tolist()]
    return []


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:MAX_ERROR]


def _send(link: socket.socket, value: dict[str, Any]) -> None:
    import msgspec

    body = msgspec.msgpack.encode(value)
    if len(body) > MAX_FRAME:
        body = msgspec.msgpack.encode({"error": f"The answer has {len(body)} bytes."})
    link.sendall(struct.pack(">I", len(body)) + body)


def _receive(link: socket.socket) -> dict[str, Any] | None:
    import msgspec

    head = _exactly(link, 4)
    if head is None:
        return None
    body = _exactly(link, struct.unpack(">I", head)[0])
    return None if body is None else dict(msgspec.msgpack.decode(body))


def _exactly(link: socket.socket, size: int) -> bytes | None:
    content = bytearray()
    while len(content) < size:
        part = link.recv(min(size - len(content), 1024 * 1024))
        if not part:
            return None
        content += part
    return bytes(content)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
