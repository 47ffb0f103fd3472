"""A version's folder: weights, readable JSON that rebuilds the learner, and a manifest.

    learner.json        {"schema": 1, "learner": REFERENCE, "config": {...}}; "format" unless torch
    model.safetensors   weights
    manifest.json       {"schema": 1, "files": {NAME: {"sha256": HEX, "bytes": N}, ...}}

The digest of a version is the SHA-256 of its manifest in canonical JSON, and the manifest holds
the SHA-256 of every other file, so the digest stands for the whole. A folder is read as if an
enemy had written it: sizes are bounded before reading, links, unexpected and missing files are
refused, nothing is unpickled, and code is imported only for a learner that the caller allows.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from homeostat.errors import ArtifactError, SuspectArtifact
from models.catalog import find_learner
from models.learner import Learner
from models.stored import (
    MAX_JSON_BYTES,
    MAX_TENSOR_BYTES,
    canonical,
    open_bounded,
    parse_object,
    parse_tensors,
    read_bounded,
    refuse,
    tensor_bytes,
)
from models.torch_learner import guarded

SCHEMA = 1
TORCH = "torch"
LEARNER_FILE = "learner.json"
WEIGHTS_FILE = "model.safetensors"
MANIFEST_FILE = "manifest.json"
MAX_MANIFEST_BYTES = 256 * 1024
MAX_FOLDER_BYTES = MAX_TENSOR_BYTES
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class LoadedModel:
    """A version rebuilt from its folder: ready to predict, its digest checked.

    Args:
        learner: Made from `learner.json`.
        model: Its weights, in evaluation mode.
        digest: Of the folder.
        reference: How the learner was found.
        files: The other files that the manifest names, as they were checked.
    """

    learner: Learner
    model: nn.Module
    digest: str
    reference: str
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Stored:
    """A version's folder, verified and read; nothing of it is built yet.

    Args:
        digest: Of the folder.
        reference: How its learner is found.
        config: What makes the learner.
        format: What picks its runtime: `torch`, or another that `registry.runtimes` knows.
        contents: Every file that the manifest names.
    """

    digest: str
    reference: str
    config: Mapping[str, Any]
    format: str
    contents: Mapping[str, bytes] = field(repr=False)

    @property
    def extra(self) -> dict[str, bytes]:
        """The files beside the learner and the weights."""
        ours = (LEARNER_FILE, WEIGHTS_FILE)
        return {name: content for name, content in self.contents.items() if name not in ours}


@dataclass(frozen=True)
class Entry:
    """What a manifest says of a file."""

    sha256: str
    size: int


def save_model(
    folder: Path,
    reference: str,
    learner: Learner,
    model: nn.Module,
    extra: Mapping[str, bytes] | None = None,
) -> str:
    """Write a version's folder and answer its digest.

    The same learner, weights and extra files give the same digest.

    Args:
        folder: Made if need be; files of an earlier, interrupted save are written over.
        reference: How `find_learner` finds the learner's class.
        learner: Its `config()` is stored.
        model: Its `state_dict()` is stored.
        extra: More files by name, such as `profile.json`.

    Raises:
        ArtifactError: an extra file's name is not a plain one, or the folder holds other files.
    """
    files = dict(extra or {})
    for name in files:
        if not _NAME.fullmatch(name) or name in {LEARNER_FILE, WEIGHTS_FILE, MANIFEST_FILE}:
            raise ArtifactError(
                f"'{name}' cannot be the name of an extra file of a version.",
                remedy="Use a plain file name that the version does not use itself.",
            )
    description = {"schema": SCHEMA, "learner": reference, "config": guarded(learner.config)}
    if learner.format != TORCH:
        description["format"] = learner.format
    files[LEARNER_FILE] = canonical(description)
    files[WEIGHTS_FILE] = tensor_bytes(model.state_dict())
    folder.mkdir(parents=True, exist_ok=True)
    if others := sorted({path.name for path in folder.iterdir()} - set(files) - {MANIFEST_FILE}):
        raise ArtifactError(
            f"{folder.name} holds {', '.join(others)}, which is no part of the version.",
            remedy="Save into an empty folder.",
        )
    (folder / MANIFEST_FILE).unlink(missing_ok=True)  # an interrupted save is no version
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return write_manifest(folder)


def write_manifest(folder: Path) -> str:
    """Write the manifest of all files of a flat folder and answer its digest.

    Raises:
        ArtifactError: the folder holds something else than regular files with plain names.
    """
    files: dict[str, dict[str, object]] = {}
    for name in sorted(_names(folder) - {MANIFEST_FILE}):
        sha256, size = _digest_of(folder / name, MAX_FOLDER_BYTES)
        files[name] = {"sha256": sha256, "bytes": size}
    manifest = canonical({"schema": SCHEMA, "files": files})
    (folder / MANIFEST_FILE).write_bytes(manifest)
    return hashlib.sha256(manifest).hexdigest()


def verify(folder: Path, digest: str | None = None, max_bytes: int = MAX_FOLDER_BYTES) -> str:
    """Check every file of a folder against its manifest, and the manifest against `digest`.

    Args:
        folder: A version's `model/`, or any folder that `write_manifest` sealed.
        digest: What was registered; None accepts any whole folder.
        max_bytes: Of all files together; refused before reading when more.

    Returns:
        The folder's digest.

    Raises:
        SuspectArtifact: files missing, unexpected, linked, too large or changed, or another digest.
    """
    entries, found = _manifest(folder, digest, max_bytes)
    for name, entry in entries.items():
        if _digest_of(folder / name, entry.size) != (entry.sha256, entry.size):
            raise _changed(name)
    return found


def load_model(folder: Path, *, allowed: Collection[str], digest: str | None = None) -> LoadedModel:
    """Rebuild a version: verify, import the allowed learner, load the weights strictly.

    Args:
        folder: As `save_model` wrote it.
        allowed: Learner references that may be imported.
        digest: What was registered; None accepts any whole folder.

    Raises:
        SuspectArtifact: the folder is not what was registered.
        ArtifactError: its learner is not allowed, or it is of another format than `torch`.
        SettingsError: the learner is allowed but cannot be found here.
        LearnerError: the learner's own code failed on its configuration.
    """
    return build_torch(read_version(folder, digest), allowed)


def read_version(folder: Path, digest: str | None = None) -> Stored:
    """Verify a version's folder and read it, each file once: what is checked is what is used.

    Args:
        folder: As `save_model` wrote it.
        digest: What was registered; None accepts any whole folder.

    Raises:
        SuspectArtifact: the folder is not what was registered.
    """
    entries, found = _manifest(folder, digest, MAX_FOLDER_BYTES)
    for needed in (LEARNER_FILE, WEIGHTS_FILE):
        if needed not in entries:
            raise refuse(f"{needed} is missing.", file=needed)
    contents = {name: _read(folder, name, entry) for name, entry in entries.items()}
    reference, config, form = _description(contents[LEARNER_FILE])
    return Stored(found, reference, config, form, contents)


def build_torch(stored: Stored, allowed: Collection[str]) -> LoadedModel:
    """Rebuild a version of the format `torch`. Raises as `load_model`."""
    if stored.format != TORCH:
        raise ArtifactError(
            f"The version is of the format '{stored.format[:40]}', which is not loaded here.",
            remedy="Ask for it through the gateway.",
            format=stored.format[:40],
        )
    if stored.reference not in allowed:
        raise ArtifactError(
            f"The version asks for the learner '{stored.reference}', which is not allowed here.",
            remedy=f"Allowed: {', '.join(sorted(allowed)) or 'none'}. Set the policy's learner.",
            learner=stored.reference,
        )
    learner = guarded(find_learner(stored.reference).from_config, stored.config)
    model = guarded(learner.build, torch.Generator().manual_seed(0))
    _load_weights(model, parse_tensors(stored.contents[WEIGHTS_FILE], WEIGHTS_FILE))
    return LoadedModel(learner, model.eval(), stored.digest, stored.reference, stored.extra)


def _description(content: bytes) -> tuple[str, dict[str, Any], str]:
    if len(content) > MAX_JSON_BYTES:
        raise refuse(f"{LEARNER_FILE} has {len(content)} bytes; at most {MAX_JSON_BYTES} are read.")
    description = parse_object(content, LEARNER_FILE)
    form = description.pop("format", TORCH)
    if set(description) != {"schema", "learner", "config"} or description["schema"] != SCHEMA:
        raise refuse(f"{LEARNER_FILE} is not of schema {SCHEMA}.", file=LEARNER_FILE)
    reference, config = description["learner"], description["config"]
    named = isinstance(reference, str) and isinstance(form, str)
    if not named or not isinstance(config, dict):
        raise refuse(f"{LEARNER_FILE} names no learner and config.", file=LEARNER_FILE)
    return reference, config, form


def _load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    # load_state_dict is strict about names and shapes, but converts types without a word.
    for name, wanted in model.state_dict().items():
        if name in weights and weights[name].dtype != wanted.dtype:
            raise refuse(f"The weight '{name}' is {weights[name].dtype}, not {wanted.dtype}.")
    try:
        model.load_state_dict(dict(weights), strict=True)
    except RuntimeError as error:
        raise refuse(f"The weights do not fit the learner: {error}.", file=WEIGHTS_FILE) from error


def _manifest(folder: Path, digest: str | None, max_bytes: int) -> tuple[dict[str, Entry], str]:
    names = _names(folder)
    if MANIFEST_FILE not in names:
        raise refuse(f"{MANIFEST_FILE} is missing.", file=MANIFEST_FILE)
    content = read_bounded(folder / MANIFEST_FILE, MAX_MANIFEST_BYTES)
    found = hashlib.sha256(content).hexdigest()
    if digest is not None and digest != found:
        raise refuse(f"The digest is {found}, but {digest} was registered.", digest=found)
    entries = parse_manifest(content, max_bytes)
    if missing := sorted(set(entries) - names):
        raise refuse(f"Missing: {', '.join(missing)}.", files=missing)
    if unexpected := sorted(names - set(entries) - {MANIFEST_FILE}):
        raise refuse(f"Not in the manifest: {', '.join(unexpected)}.", files=unexpected)
    return entries, found


def parse_manifest(content: bytes, max_bytes: int = MAX_FOLDER_BYTES) -> dict[str, Entry]:
    """The files that a manifest names, before anything of it is believed or asked for.

    Raises:
        SuspectArtifact: it is not one, names a file that no version has, or more than
            `max_bytes` together.
    """
    manifest = parse_object(content, MANIFEST_FILE)
    # One value, one text: a manifest in other words would have a second digest.
    if content != _canonical_or_empty(manifest) or set(manifest) != {"schema", "files"}:
        raise refuse(f"{MANIFEST_FILE} is not canonical JSON of its schema.", file=MANIFEST_FILE)
    if manifest["schema"] != SCHEMA or not isinstance(manifest["files"], dict):
        raise refuse(f"{MANIFEST_FILE} is not of schema {SCHEMA}.", file=MANIFEST_FILE)
    entries = {name: _entry(name, value) for name, value in manifest["files"].items()}
    if len({name.lower() for name in entries}) < len(entries) or MANIFEST_FILE in entries:
        # On some disks the second would be written over the first.
        raise refuse(f"{MANIFEST_FILE} names one file twice, or itself.", file=MANIFEST_FILE)
    total = sum(entry.size for entry in entries.values())
    if total > max_bytes:
        raise refuse(f"The files have {total} bytes; at most {max_bytes} are read.", bytes=total)
    return entries


def _canonical_or_empty(value: object) -> bytes:
    try:
        return canonical(value)
    except (
        ValueError,
        RecursionError,
    ):  # NaN, which JSON does not have; too deep to be one of ours
        return b""


def _entry(name: str, value: object) -> Entry:
    if _NAME.fullmatch(name) and isinstance(value, dict) and set(value) == {"sha256", "bytes"}:
        sha256, size = value["sha256"], value["bytes"]
        whole = isinstance(size, int) and not isinstance(size, bool) and size >= 0
        if whole and isinstance(sha256, str) and _HEX.fullmatch(sha256):
            return Entry(sha256, size)
    raise refuse(f"{MANIFEST_FILE} has no valid entry for '{name[:128]}'.", file=MANIFEST_FILE)


def _names(folder: Path) -> set[str]:
    """The names in a flat folder of regular files."""
    if folder.is_symlink():
        raise refuse(f"{folder.name} is a link.", file=folder.name)
    try:
        found = list(os.scandir(folder))
    except OSError as error:
        raise refuse(f"{folder.name} is no folder that can be read: {error.strerror}.") from error
    for item in found:
        if not item.is_file(follow_symlinks=False) or not _NAME.fullmatch(item.name):
            raise refuse(f"'{item.name}' is not a regular file with a plain name.", file=item.name)
    return {item.name for item in found}


def _read(folder: Path, name: str, entry: Entry) -> bytes:
    content = read_bounded(folder / name, entry.size)
    if len(content) != entry.size or hashlib.sha256(content).hexdigest() != entry.sha256:
        raise _changed(name)
    return content


def _digest_of(path: Path, limit: int) -> tuple[str, int]:
    """SHA-256 and size of a regular file, which is never in memory as a whole.

    Raises:
        SuspectArtifact: it is missing, a link, no regular file, or larger than `limit`.
    """
    descriptor, size = open_bounded(path, limit)
    with os.fdopen(descriptor, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), size


def _changed(name: str) -> SuspectArtifact:
    return refuse(f"{name} is not what the manifest says: it was changed or cut.", file=name)
