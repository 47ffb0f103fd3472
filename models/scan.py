"""What is in a version's folder, told from its bytes: recorded with the version, for who asks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.artifact import MANIFEST_FILE, TORCH, parse_manifest, read_version, verify
from models.stored import (
    MAX_JSON_BYTES,
    MAX_TENSOR_BYTES,
    parse_object,
    parse_tensors,
    read_bounded,
)


@dataclass(frozen=True)
class ScannedFile:
    """A file, and what its bytes are: `json` or `safetensors`."""

    name: str
    bytes: int
    sha256: str
    format: str


@dataclass(frozen=True)
class Scan:
    """A folder that was read whole.

    Args:
        digest: Of the folder.
        files: By name.
        code: Whether to load it may run code of its maker; False: weights and JSON alone.
    """

    digest: str
    files: tuple[ScannedFile, ...]
    code: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, as it is stored and shown."""
        return {"schema": 1, "summary": str(self), **asdict(self)}

    def __str__(self) -> str:
        """In a line, for MLflow's page."""
        formats = ", ".join(sorted({file.format for file in self.files}))
        size = sum(file.bytes for file in self.files)
        code = "its maker's code may run" if self.code else "no code"
        return f"{len(self.files)} files, {size} bytes, {formats}: {code}"


def scan(folder: Path, digest: str | None = None) -> Scan:
    """Read every file of a version's folder and say what it is.

    Args:
        folder: As `save_model` wrote it.
        digest: What it has to be; None accepts any whole folder.

    Raises:
        SuspectArtifact: it is not whole, or holds anything but safetensors and JSON.
    """
    found = verify(folder, digest)
    entries = parse_manifest(read_bounded(folder / MANIFEST_FILE, MAX_JSON_BYTES))
    made_of = read_version(folder, found).format
    files = []
    for name, entry in sorted(entries.items()):
        content = read_bounded(folder / name, MAX_TENSOR_BYTES)
        files.append(ScannedFile(name, entry.size, entry.sha256, _format(content, name)))
    return Scan(found, tuple(files), code=made_of != TORCH)


def _format(content: bytes, name: str) -> str:
    if name.endswith(".safetensors"):
        parse_tensors(content, name)
        return "safetensors"
    parse_object(content, name)
    return "json"
