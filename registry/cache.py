"""Local copies of artifacts, by digest: what the gateway serves from while MLflow is away.

    CACHE/DIGEST/            a version's model folder
    CACHE/DIGEST.PART/       another part of the same version, sealed by its own manifest
    CACHE/names/MODEL/N      the digest of version N of MODEL, as MLflow last said
    CACHE/pins/MODEL/N.json  what version N is kept whole for (`registry.custody`)

A copy is made in a folder beside, brought to the disk and renamed when it is whole, so a copy
that is there is whole, also after a power cut; its files are read-only. It is verified again at
every use all the same: a disk can change what it keeps.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection
from datetime import datetime
from pathlib import Path
from urllib.parse import quote, unquote

from homeostat.errors import ArtifactError, SuspectArtifact

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 256 * 1024
MAX_BYTES = 2 * 1024**3  # of all files of one part
_MAKING, _GOING = ".making-", ".going-"
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"[0-9a-f]{64}")

Download = Callable[[str, int], bytes]  # (file below the part, limit in bytes) -> its content


class ArtifactCache:
    """Copies under one folder, which is made when the first one comes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def digest_of(self, model: str, version: int) -> str | None:
        """What MLflow last said the digest of a version is, or None."""
        try:
            digest = self._name(model, version).read_text(encoding="ascii").strip()
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        return digest if _DIGEST.fullmatch(digest) else None

    def remember(self, model: str, version: int, digest: str) -> None:
        """Keep the digest of a version for when MLflow is away."""
        if self.digest_of(model, version) == digest:
            return
        name = self._name(model, version)
        name.parent.mkdir(parents=True, exist_ok=True)
        write_whole(name, digest.encode())

    def find(self, digest: str, part: str) -> Path | None:
        """The copy, if there is one and it is still what it was; a spoilt one is removed."""
        from models.artifact import verify  # torch comes with it: only who loads models pays

        copy = self._copy(digest, part)
        if not os.path.lexists(copy):
            return None
        try:
            verify(copy, digest if part == "model" else None, max_bytes=MAX_BYTES)
        except ArtifactError:
            _remove(copy)
            return None
        return copy

    def seal(self, digest: str, part: str) -> str | None:
        """SHA-256 of the manifest of a copy, which stands for all its files; None: no copy."""
        try:
            manifest = (self._copy(digest, part) / MANIFEST).read_bytes()
        except FileNotFoundError:
            return None
        return hashlib.sha256(manifest).hexdigest()

    def check(self, digest: str, part: str, seal: str) -> str:
        """Why a copy is not what it was sealed as; empty where it is. Nothing is removed."""
        from models.artifact import verify

        copy = self._copy(digest, part)
        if not copy.is_dir():
            return "It is not on this disk."
        try:
            verify(copy, seal, max_bytes=MAX_BYTES)
        except ArtifactError as error:
            return error.message
        return ""

    def renew(self, digest: str, part: str, download: Download, seal: str | None = None) -> Path:
        """Put a fresh copy in the place of a spoilt one; where none comes the old one stays.

        Raises:
            ArtifactError: what comes is not what was sealed.
        """
        old = self._copy(digest, part)
        aside = old.with_name(f"{_GOING}{old.name}")
        shutil.rmtree(aside, ignore_errors=True)
        if old.exists():
            old.rename(aside)
        try:
            return self.store(digest, part, download, seal)
        finally:
            if aside.exists() and not old.exists():
                aside.rename(old)
            shutil.rmtree(aside, ignore_errors=True)

    def store(self, digest: str, part: str, download: Download, seal: str | None = None) -> Path:
        """Download a part by its manifest, verify it, and put it in its place in one step.

        Args:
            digest: Of the version.
            part: Which of its parts.
            download: Where its files come from.
            seal: What the part's manifest has to be; of the part `model` that is the digest.

        Raises:
            SuspectArtifact: it is not the part that was registered.
        """
        from models.artifact import parse_manifest, verify

        wanted = digest if part == "model" else seal
        copy = self._copy(digest, part)
        self._folder.mkdir(parents=True, exist_ok=True)
        # Not `TemporaryDirectory`: after the rename there would be nothing for it to remove.
        making = Path(tempfile.mkdtemp(prefix=_MAKING, dir=self._folder))
        try:
            manifest = download(MANIFEST, MAX_MANIFEST_BYTES)
            if wanted is not None and hashlib.sha256(manifest).hexdigest() != wanted:
                raise SuspectArtifact(
                    f"The artifact in MLflow is not the one with digest {wanted}.",
                    remedy="Do not use it; register the version again.",
                    digest=wanted,
                )
            _write_through(making / MANIFEST, manifest)
            for name, entry in parse_manifest(manifest, MAX_BYTES).items():
                _write_through(making / name, download(name, entry.size))
            verify(making, wanted, max_bytes=MAX_BYTES)
            sync_folder(making)
            try:
                making.rename(copy)
                sync_folder(self._folder)
            except OSError:  # somebody else put it there in the meantime
                if self.find(digest, part) is None:
                    raise
        except SuspectArtifact as error:
            error.fields["digest"] = digest
            raise
        finally:
            shutil.rmtree(making, ignore_errors=True)
        return copy

    @property
    def folder(self) -> Path:
        """Where all of it is."""
        return self._folder

    def names(self) -> dict[tuple[str, int], str]:
        """The digest of every version that is remembered, by model and number."""
        found = {}
        for path in (self._folder / "names").glob("*/*"):
            if path.name.isdecimal():
                model, version = unquote(path.parent.name), int(path.name)
                if digest := self.digest_of(model, version):
                    found[model, version] = digest
        return found

    def prune(self, keep: Collection[str], before: datetime) -> list[str]:
        """Remove copies that nobody needs; they can be downloaded again.

        Args:
            keep: Digests that stay, with all their parts.
            before: A copy made later stays as well: somebody may be about to use it.

        Returns:
            The names of the folders that were removed.
        """
        removed = []
        for copy in self._folder.iterdir() if self._folder.is_dir() else ():
            digest = copy.name.partition(".")[0]
            left_over = copy.name.startswith((_MAKING, _GOING))
            if not copy.is_dir() or not (left_over or _DIGEST.fullmatch(digest)):
                continue
            if digest in keep or copy.stat().st_mtime >= before.timestamp():
                continue
            going = copy.with_name(f"{_GOING}{copy.name.lstrip('.')}")
            try:
                copy.rename(going)  # at once: a copy that is there is whole
            except FileNotFoundError:  # another gateway of this disk was quicker
                continue
            shutil.rmtree(going, ignore_errors=True)
            removed.append(copy.name)
        for (model, version), digest in self.names().items():
            if digest in removed:
                self._name(model, version).unlink(missing_ok=True)
        return removed

    def _copy(self, digest: str, part: str) -> Path:
        if not _DIGEST.fullmatch(digest) or not _PLAIN.fullmatch(part):
            raise ArtifactError(
                f"'{digest}' and '{part}' are not a digest and a part.",
                remedy="Register the version again.",
            )
        return self._folder / (digest if part == "model" else f"{digest}.{part}")

    def _name(self, model: str, version: int) -> Path:
        # A dot is left alone by `quote`, and two of them would lead out of the folder.
        return self._folder / "names" / quote(model, safe="").replace(".", "%2E") / str(version)


def _remove(copy: Path) -> None:
    """Take away what stands in the place of a copy, whatever it is; nothing behind a link."""
    if copy.is_dir() and not copy.is_symlink():
        shutil.rmtree(copy, ignore_errors=True)
    else:
        copy.unlink(missing_ok=True)


def is_plain(name: str) -> bool:
    """Whether a file or a part may be called so here."""
    return _PLAIN.fullmatch(name) is not None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file in one step: after a power cut it is there as it was, or as it is now."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=_MAKING)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_through(path: Path, content: bytes) -> None:
    """A new read-only file, on the disk and not only in memory."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), 0o444)
