"""Safetensors files that may be larger than memory: written part by part, read where they lie.

The format (https://github.com/huggingface/safetensors): eight bytes with the length of a JSON
header, the header, then the tensors' bytes without gaps. What is read is checked as if an enemy had
written it. A mapped page is read when it is first touched: nothing is in memory before it is used.
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeGuard

import torch
from torch import Tensor

from models.stored import MAX_HEADER_BYTES, open_bounded, parse_object, refuse

_TYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {"I64": torch.int64, "F64": torch.float64, "F32": torch.float32}
)
_NAMES = {kind: name for name, kind in _TYPES.items()}
_ORDER = tuple(_TYPES.values())  # of the file: the widest first, as the library has it


@dataclass(frozen=True)
class Parts:
    """A tensor that is given in parts, one below the other.

    Args:
        kind: Of its numbers.
        shape: Of the whole.
        parts: The rows in order, some at a time.
    """

    kind: torch.dtype
    shape: tuple[int, ...]
    parts: Iterable[Tensor]

    @classmethod
    def of(cls, tensor: Tensor) -> Parts:
        """A tensor that is whole already."""
        return cls(tensor.dtype, tuple(tensor.shape), (tensor,))


def write_tensors(path: Path, tensors: Mapping[str, Parts]) -> None:
    """Write tensors byte for byte as the safetensors library does, one part after the other.

    A file that is there is replaced, not written over: who has mapped it reads on in the old one.
    """
    order = sorted(tensors, key=lambda name: (_ORDER.index(tensors[name].kind), name))
    header: dict[str, Any] = {}
    end = 0
    for name in order:
        one = tensors[name]
        begin, end = end, end + math.prod(one.shape) * one.kind.itemsize
        kind, shape = _NAMES[one.kind], list(one.shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    beside = path.with_name(f"{path.name}.part")
    with beside.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            for part in tensors[name].parts:
                file.write(part.contiguous().numpy().tobytes())
    beside.replace(path)


def map_tensors(path: Path, limit: int) -> dict[str, Tensor]:
    """The tensors of a safetensors file, in place: writing to one changes no file.

    Raises:
        SuspectArtifact: it is missing, a link, larger than `limit`, or not such a file.
    """
    descriptor, size = open_bounded(path, limit)
    with os.fdopen(descriptor, "rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size - 8) or length % 8:
            raise refuse(
                f"{path.name} is not a safetensors file: its header would have {length} bytes.",
                file=path.name,
            )
        header = parse_object(file.read(length), path.name)
        whole = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
    found: dict[str, Tensor] = {}
    end = 0
    placed = [(name, *_placed(path.name, name, about)) for name, about in header.items()]
    for name, kind, shape, begins, ends in sorted(placed, key=lambda each: each[3:]):
        if begins != end:
            raise refuse(f"{path.name} is not a safetensors file: it has gaps.", file=path.name)
        end, base = ends, 8 + length + begins
        if base + (ends - begins) > size:
            raise refuse(f"{path.name} is not a safetensors file: it is cut off.", file=path.name)
        count = math.prod(shape)
        flat = torch.frombuffer(whole, dtype=kind, count=count, offset=base) if count else None
        found[name] = (torch.zeros(0, dtype=kind) if flat is None else flat).reshape(shape)
    if 8 + length + end != size:
        raise refuse(f"{path.name} is not a safetensors file: more follows.", file=path.name)
    return found


def _placed(file: str, name: str, about: object) -> tuple[torch.dtype, list[int], int, int]:
    """Type, shape and place of a tensor as the header says them."""
    fields = about if isinstance(about, dict) else {}
    kind = _TYPES.get(str(fields.get("dtype")))
    shape, offsets = fields.get("shape"), fields.get("data_offsets")
    if (
        kind is None
        or set(fields) != {"dtype", "shape", "data_offsets"}
        or not _whole_numbers(shape)
        or not _whole_numbers(offsets)
        or len(offsets) != 2
        or offsets[1] - offsets[0] != math.prod(shape) * kind.itemsize
    ):
        raise refuse(f"{file} is not a safetensors file: '{name}' is not placed.", file=file)
    return kind, shape, offsets[0], offsets[1]


def _whole_numbers(values: object) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(
        isinstance(one, int) and not isinstance(one, bool) and 0 <= one < 2**48 for one in values
    )
