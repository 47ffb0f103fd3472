"""Tensors of the Open Inference Protocol: what was sent as values of rows, and answers as tensors.

A tensor comes as JSON, flat or nested, or as little-endian bytes after the JSON (the binary
extension). Its shape is the caller's word: it is held against what came, before anything is made
of it.
"""

from __future__ import annotations

import json
import math
import struct
from array import array
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from homeostat.errors import InvalidRequest, TooLarge
from homeostat.schema import Kind, Named

DTYPES = {
    "BOOL": "?",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
DATATYPES: dict[Kind, str] = {
    "float64": "FP64",
    "float32": "FP32",
    "int64": "INT64",
    "int32": "INT32",
    "bool": "BOOL",
    "str": "BYTES",
}
MAX_DIMENSIONS = 8
_LENGTH = struct.Struct("<I")  # before each element of BYTES


class InputTensor(msgspec.Struct):
    """A tensor of a request."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: Any = msgspec.UNSET


def elements_of(tensor: InputTensor) -> int:
    """How many elements a shape promises; no more than a request can hold.

    Raises:
        InvalidRequest: no shape at all, or one with a negative dimension.
    """
    shape = tensor.shape
    if not 1 <= len(shape) <= MAX_DIMENSIONS or min(shape) < 0:
        raise wrong(
            tensor,
            f"has the shape {str(shape)[:80]}",
            f"Send 1 to {MAX_DIMENSIONS} dimensions, none negative; the first counts the rows.",
        )
    return math.prod(shape)  # of any size: Python's numbers do not overflow


def check_elements(tensors: Sequence[InputTensor], most: int) -> None:
    """Refuse what holds more values than a request may; 0: as many as it likes.

    Raises:
        TooLarge: more.
    """
    found = sum(elements_of(tensor) for tensor in tensors)
    if 0 < most < found:
        raise TooLarge(
            f"The shapes of the tensors promise {found} values; at most {most} are taken.",
            remedy="Send fewer rows at a time, or raise max_elements in the settings.",
            limit=most,
        )


def values_of(tensor: InputTensor, blob: bytes | None) -> list[Any]:
    """All values of a tensor, row by row, as JSON has them: NaN, which it has not, is None.

    Args:
        tensor: As sent.
        blob: Its bytes, where it came by the binary extension.

    Raises:
        InvalidRequest: it is not what its shape and datatype say.
    """
    count = elements_of(tensor)
    if tensor.datatype != "BYTES" and tensor.datatype not in ("BF16", *DTYPES):
        known = ", ".join([*DTYPES, "BF16", "BYTES"])
        raise wrong(tensor, f"has the datatype {tensor.datatype[:80]!r}", f"Known: {known}.")
    if blob is not None:
        found = _texts(tensor, blob) if tensor.datatype == "BYTES" else _numbers(tensor, blob)
    elif tensor.data is msgspec.UNSET:
        raise wrong(tensor, "has no data", "Send 'data', or bytes with 'binary_data_size'.")
    else:
        found = _from_json(tensor)
    if len(found) != count:
        raise wrong(
            tensor,
            f"has {len(found)} elements and the shape {tensor.shape}, which is {count}",
            "Send as many elements as the shape says.",
        )
    return found if isinstance(found, list) else _plain(found)


def tensor_of(spec: Named, values: Sequence[Any]) -> tuple[str, list[int], NDArray[Any]]:
    """Answers as datatype, shape and a flat array; of text an array of objects.

    Args:
        spec: What the answers are called and hold.
        values: One for each row, or `width` for each row.
    """
    shape = [len(values)] if spec.width is None else [len(values), spec.width]
    datatype = DATATYPES[spec.kind]
    if spec.kind == "str":
        texts = [one if isinstance(one, str) else json.dumps(one) for one in values]
        return datatype, shape, np.array(texts, dtype=object)
    return datatype, shape, np.asarray(values, dtype=DTYPES[datatype]).reshape(-1)


def to_bytes(values: NDArray[Any]) -> bytes:
    """A flat array as the binary extension has it."""
    if values.dtype != object:
        return values.tobytes()
    encoded = [text.encode() for text in values]
    return b"".join(part for text in encoded for part in (_LENGTH.pack(len(text)), text))


def wrong(tensor: InputTensor, what: str, remedy: str) -> InvalidRequest:
    """The error of a tensor."""
    name = tensor.name[:80]
    return InvalidRequest(f"The input '{name}' {what}.", remedy=remedy, input=name)


def _numbers(tensor: InputTensor, blob: bytes) -> NDArray[Any]:
    dtype = np.dtype("<u2" if tensor.datatype == "BF16" else DTYPES[tensor.datatype])
    if len(blob) % dtype.itemsize:
        raise wrong(
            tensor,
            f"has {len(blob)} bytes, which is no whole number of {tensor.datatype}",
            f"Each has {dtype.itemsize} bytes.",
        )
    if tensor.datatype == "BOOL":  # any byte but 0 is true, as in C
        return np.asarray(np.frombuffer(blob, dtype=np.uint8) != 0)
    found = np.frombuffer(blob, dtype=dtype)
    if tensor.datatype == "BF16":  # the upper half of a FP32
        return (found.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(found)


def _texts(tensor: InputTensor, blob: bytes) -> list[str]:
    texts, start = [], 0
    while start < len(blob):
        end = start + _LENGTH.size
        if end <= len(blob):
            (length,) = _LENGTH.unpack_from(blob, start)
            start, end = end, end + length
        if end > len(blob):
            raise wrong(
                tensor,
                "ends in the middle of an element",
                "Before each element send its length as 4 bytes, little-endian.",
            )
        try:
            texts.append(blob[start:end].decode())
        except UnicodeDecodeError:
            raise wrong(tensor, "holds text that is not UTF-8", "Send text as UTF-8.") from None
        start = end
    return texts


def _from_json(tensor: InputTensor) -> NDArray[Any] | list[Any]:
    if not isinstance(tensor.data, list):
        raise wrong(tensor, "has data that is no list", "Send a list, flat or nested.")
    flat, datatype = _flat(tensor, tensor.data), tensor.datatype
    if datatype in ("BOOL", "BYTES"):
        kind = bool if datatype == "BOOL" else str
        if all(type(one) is kind for one in flat):
            return flat
        raise _other(tensor)
    dtype = np.dtype("<f4" if datatype == "BF16" else DTYPES[datatype])
    try:
        # An array of one C type takes numbers alone. numpy would take text as well, and make
        # every element as wide as the longest.
        given = np.asarray(array({"i": "q", "u": "Q", "f": "d"}[dtype.kind], flat))
    except (TypeError, OverflowError):
        raise _other(tensor) from None
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    if given.size and (np.nanmin(given) < limits.min or np.nanmax(given) > limits.max):
        raise _other(tensor)
    return given.astype(dtype)


def _other(tensor: InputTensor) -> InvalidRequest:
    return wrong(
        tensor, f"holds something that is no {tensor.datatype}", "Send values of its datatype."
    )


def _flat(tensor: InputTensor, nested: list[Any]) -> list[Any]:
    """Nested lists as one; no deeper than a shape can be."""
    flat = nested
    for _ in range(MAX_DIMENSIONS):
        if not any(isinstance(one, list) for one in flat):
            return flat
        flat = [inner for one in flat for inner in (one if isinstance(one, list) else [one])]
    raise wrong(tensor, "is nested too deep", f"At most {MAX_DIMENSIONS} dimensions are taken.")


def _plain(values: NDArray[Any]) -> list[Any]:
    if values.dtype.kind == "f" and (missing := np.isnan(values)).any():
        values = values.astype(object)
        values[missing] = None
    plain: list[Any] = values.tolist()
    return plain
