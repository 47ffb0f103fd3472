"""What passes between us and a model's process: numbers and texts in bounded frames.

A frame is described in `registry.pyfunc_process`, which writes the answers; nothing that comes
back is believed to be more than numbers and texts.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from homeostat.errors import LearnerError
from models.pyfunc_columns import Values

MAX_FRAME = 64 * 1024 * 1024


class Died(Exception):
    """The process is gone, or was ended because it took too long."""


def _packed(values: Values) -> object:
    if isinstance(values, list):
        return values
    return {"kind": values.dtype.str, "data": values.tobytes()}


def _values(answer: Mapping[str, Any]) -> Values:
    """What an answer holds, nothing of it believed.

    Raises:
        LearnerError: it is no values.
    """
    try:
        if "values" in answer:
            return list(answer["values"])
        kind = np.dtype(str(answer["kind"]))
        if kind.kind not in "biuf":
            raise ValueError(f"of kind {kind}")
        return np.frombuffer(answer["data"], kind).reshape([int(n) for n in answer["shape"]])
    except (KeyError, TypeError, ValueError) as error:
        raise LearnerError(f"The model's process answered with no values: {error}.") from error


def exchange(
    link: socket.socket, columns: Mapping[str, Values], tensor: str, seconds: float
) -> Values:
    """The answers to columns, as `models.pyfunc.Apart.ask`.

    Raises:
        Died: the process is gone, or took too long.
        LearnerError: the model failed on these rows, or they are too many.
    """
    asked = {"columns": {name: _packed(values) for name, values in columns.items()}}
    body = msgspec.msgpack.encode(asked | {"tensor": tensor})
    if len(body) > MAX_FRAME:
        raise LearnerError("The batch is too large.", remedy="Send fewer rows at once.")
    until = time.monotonic() + seconds
    link.settimeout(seconds)
    try:
        link.sendall(struct.pack(">I", len(body)) + body)
    except OSError as error:
        raise Died(str(error) or type(error).__name__) from error
    answer = receive(link, until)
    if "error" in answer:
        raise LearnerError(
            f"The model failed: {answer['error']}",
            remedy="Send rows that the model takes, or look at the model.",
        )
    return _values(answer)


def receive(link: socket.socket, until: float) -> dict[str, Any]:
    """The next frame.

    Raises:
        Died: none came before `until` (monotonic seconds), or something else did.
    """
    (size,) = struct.unpack(">I", _exactly(link, 4, until))
    if size > MAX_FRAME:
        raise Died(f"it sent a frame of {size} bytes")
    try:
        found = msgspec.msgpack.decode(_exactly(link, size, until), type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Died(f"it sent no frame: {error}") from error
    return found


def _exactly(link: socket.socket, size: int, until: float) -> bytes:
    content = bytearray()
    while len(content) < size:
        left = until - time.monotonic()
        if left <= 0:
            raise Died("it took too long")
        link.settimeout(left)
        try:
            part = link.recv(min(size - len(content), 1024 * 1024))
        except TimeoutError as error:
            raise Died("it took too long") from error
        except OSError as error:
            raise Died(str(error) or type(error).__name__) from error
        if not part:
            raise Died("it closed the link")
        content += part
    return bytes(content)
