"""A model's folder as bytes by path, and back: what is sealed into an artifact of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from models.stored import read_bounded, refuse

MAX_FILES, MAX_DEPTH = 10_000, 16
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]{0,127}")


def unpack(files: Mapping[str, Tensor], folder: Path) -> None:
    """Write a model's files below `folder/model`.

    Raises:
        SuspectArtifact: a path that leads elsewhere, too many files, or one that is no bytes.
    """
    if len(files) > MAX_FILES:
        raise refuse(f"The model has {len(files)} files; at most {MAX_FILES} are unpacked.")
    for path, content in files.items():
        parts = path.split("/")
        plain = all(_PART.fullmatch(part) for part in parts) and len(parts) <= MAX_DEPTH
        if not plain or content.dtype != torch.uint8 or content.ndim != 1:
            raise refuse(f"'{path[:128]}' is no file of a model.", file=path[:128])
        target = folder / "model" / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                file.write(content.numpy().tobytes())
        except OSError as error:  # a file where another has its folder
            raise refuse(f"'{path[:128]}' cannot be written: {error.strerror}.") from error


def pack(folder: Path, limit: int) -> dict[str, Tensor]:
    """The files of a model's folder by path, uint8 (bytes,) each.

    Raises:
        SuspectArtifact: links, names that are no plain ones, or more than `limit` bytes.
    """
    files: dict[str, Tensor] = {}
    left = limit
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        parts = name.split("/")
        if not all(_PART.fullmatch(part) for part in parts) or len(parts) > MAX_DEPTH:
            raise refuse(f"'{name[:128]}' is not a plain name.", file=name[:128])
        if path.is_dir() and not path.is_symlink():
            continue
        content = read_bounded(path, left)
        left -= len(content)
        files[name] = (
            torch.frombuffer(bytearray(content), dtype=torch.uint8)
            if content
            else torch.zeros(0, dtype=torch.uint8)
        )
        if len(files) > MAX_FILES:
            raise refuse(f"The model has more than {MAX_FILES} files.")
    return files
