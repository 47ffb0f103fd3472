"""Reading files that may be hostile: bounded, regular files only, never through a link.

What is stored is weights as safetensors and plain JSON; nothing here can run code.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from homeostat.errors import SuspectArtifact

MAX_JSON_BYTES = 16 * 1024 * 1024
MAX_TENSOR_BYTES = 2 * 1024**3
MAX_HEADER_BYTES = 4 * 1024 * 1024  # of a safetensors file: some 40,000 tensors
FETCH_AGAIN = "Fetch the version again, or register it anew from a run that you trust."


def refuse(message: str, **fields: object) -> SuspectArtifact:
    """The error of a stored file that is not what it should be."""
    return SuspectArtifact(message, remedy=FETCH_AGAIN, **fields)


def canonical(value: object) -> bytes:
    """The one JSON text of a plain value: sorted keys, no spaces, ASCII, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def open_bounded(path: Path, limit: int) -> tuple[int, int]:
    """A descriptor of a regular file of at most `limit` bytes, and its size.

    The size is that of the opened file, so a file swapped after a check is not read either.

    Raises:
        SuspectArtifact: it is missing, a link, no regular file, or larger.
    """
    try:
        # Without NONBLOCK, opening a pipe in place of a file would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        reason = error.strerror or "it cannot be opened"
        raise refuse(f"{path.name} cannot be read: {reason}.", file=path.name) from error
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size <= limit:
        return descriptor, status.st_size
    os.close(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise refuse(f"{path.name} is not a regular file.", file=path.name)
    raise refuse(
        f"{path.name} has {status.st_size} bytes; at most {limit} are read.", file=path.name
    )


def read_bounded(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises:
        SuspectArtifact: it is missing, a link, no regular file, or larger.
    """
    descriptor, _ = open_bounded(path, limit)
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise refuse(f"{path.name} grew past {limit} bytes while it was read.", file=path.name)
    return content


def parse_object(content: bytes, name: str) -> dict[str, Any]:
    """A JSON object, each of its names once: what is read is what a person reads.

    Raises:
        SuspectArtifact: it is not one.
    """
    try:
        value = json.loads(
            content, parse_constant=_refuse_constant, object_pairs_hook=_refuse_doubles
        )
    except (ValueError, RecursionError) as error:
        raise refuse(f"{name} is not JSON: {error}.", file=name) from error
    if not isinstance(value, dict):
        raise refuse(f"{name} holds a {type(value).__name__}, not an object.", file=name)
    return value


def _refuse_constant(name: str) -> object:
    raise ValueError(f"it holds {name}, which JSON does not have")


def _refuse_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it names one thing twice")
    return found


def parse_tensors(content: bytes, name: str, *, notes: bool = False) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Args:
        content: Of the file.
        name: Of the file.
        notes: Whether it may have metadata, which other libraries write; it is not read.

    Raises:
        SuspectArtifact: it is not one (a pickle, say), or is cut short.
    """
    header = int.from_bytes(content[:8], "little")
    if not 2 <= header <= min(MAX_HEADER_BYTES, len(content) - 8):
        raise refuse(
            f"{name} is not a safetensors file: its header would have {header} bytes.", file=name
        )
    if "__metadata__" in parse_object(content[8 : 8 + header], name) and not notes:
        raise refuse(f"{name} carries more than tensors.", file=name)
    try:
        return safetensors.torch.load(content)
    except Exception as error:
        # The parser is foreign code over foreign bytes: an empty tensor of a huge shape, say,
        # fails an assertion of its own.
        raise refuse(f"{name} is not a safetensors file: {error}.", file=name) from error


def tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """A safetensors file; the same tensors give the same bytes, shared storage is copied."""
    plain = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    return safetensors.torch.save(plain)
