"""Weights that an enemy wrote and sealed: forged safetensors, archives and their bombs."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.unit.hostile.conftest import Version


def packed(header: bytes, data: bytes = b"\0" * 16) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def tensor(**changes: Any) -> bytes:  # noqa: ANN401 - any JSON
    entry = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]} | changes
    return packed(json.dumps({"a": entry}).encode())


def claiming(size: int) -> bytes:
    return struct.pack("<Q", size) + b"{}" * 8


def header(content: object) -> bytes:
    return packed(json.dumps(content).encode())


def with_files(member: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../evil", member)
        archive.writestr("archive/data.pkl", member)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../../evil"), io.BytesIO())
    return buffer.getvalue()


TWO = {
    "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    "b": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]},
}
BOMB = b"\0" * 32 * 1024 * 1024
SAFETENSORS: dict[str, Callable[[], bytes]] = {
    **{
        f"a header of {size} bytes": partial(claiming, size)
        for size in (0, 1, 17, 2**20, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 100_000_000)
    },
    **{
        f"dtype {dtype!r}": partial(tensor, dtype=dtype)
        for dtype in ("F64", "F16", "I8", "f32", "", "PICKLE", "F4", None, 7, ["F32"], "BOOL")
    },
    **{
        f"shape {str(shape)[:40]}": partial(tensor, shape=shape)
        for shape in (
            [-2, -2],
            [2**33, 2**33],
            [2**62, 4],
            [2**63],
            [2**64],
            [2**32, 2**32],
            [4.0],
            [True, 4],
            ["4"],
            [[4]],
            4,
            None,
            [3],
            [5],
            [0],
            [0, 2**62],
            [0, 2**63 - 1, 2**63 - 1],
            [1] * 5000,
        )
    },
    **{
        f"offsets {offsets}": partial(tensor, data_offsets=offsets)
        for offsets in (
            [16, 0],
            [-16, 0],
            [0, 17],
            [0, 15],
            [1, 17],
            [0, 2**63],
            [2**64 - 16, 2**64],
            [0.0, 16.0],
            ["0", "16"],
            [0],
            [0, 8, 16],
            None,
            [0, 1e400],
        )
    },
    "an empty tensor of a huge shape": lambda: header(
        {"a": {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}, "b": TWO["a"]}
    ),
    "overlapping tensors": lambda: header(
        {"a": TWO["a"], "b": {"dtype": "F32", "shape": [3], "data_offsets": [4, 16]}}
    ),
    "the same bytes twice": lambda: header({"a": TWO["a"], "b": TWO["a"]}),
    "a hole": lambda: header({"b": TWO["b"]}),
    "a tail that nobody owns": lambda: packed(json.dumps(TWO).encode(), b"\0" * 17),
    "one tensor twice": lambda: packed(
        b'{"a":%s,"a":%s}' % (json.dumps(TWO["a"]).encode(), json.dumps(TWO["b"]).encode())
    ),
    "a field too many": lambda: tensor(code="import os"),
    "a field twice": lambda: packed(
        b'{"a":{"dtype":"F32","dtype":"F32","shape":[4],"data_offsets":[0,16]}}'
    ),
    "no object": lambda: header([TWO]),
    "no JSON": lambda: packed(b"{" * 64),
    "NaN": lambda: packed(b'{"a":NaN}'),
    "not text": lambda: packed(b"\xff" * 64),
    "deep lists": lambda: packed(b"[" * 200_000),
    "deep objects": lambda: packed(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "metadata that is no text": lambda: header({"__metadata__": {"a": [1]}, **TWO}),
    "only metadata": lambda: packed(b'{"__metadata__":{"a":"b"}}', b""),
    "a huge header": lambda: packed(b"{}" + b" " * 5 * 1024 * 1024),
    "two hundred thousand tensors": lambda: header({str(n): TWO["a"] for n in range(200_000)}),
    "empty": lambda: b"",
    "zeros": lambda: bytes(4096),
    "random": lambda: np.random.default_rng(0).bytes(4096),
    "a zip": lambda: with_files(b"x"),
    "a zip bomb": lambda: with_files(BOMB),
    "a gzip": lambda: gzip.compress(tensor()),
    "a gzip bomb": lambda: gzip.compress(BOMB),
    "a bzip2 bomb": lambda: bz2.compress(BOMB),
    "an xz bomb": lambda: lzma.compress(BOMB, preset=0),
    "a tar": tarred,
    "HDF5": lambda: b"\x89HDF\r\n\x1a\n" + bytes(512),
    "ELF": lambda: b"\x7fELF" + bytes(512),
    "a script": lambda: b"#!/bin/sh\nexit 1\n",
    "good tensors of another model": tensor,
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_forged_weights_are_refused(version: Version, name: str) -> None:
    version.write("model.safetensors", SAFETENSORS[name]())
    version.refused_by_all_doors(version.seal())
