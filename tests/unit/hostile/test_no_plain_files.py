"""What is no plain file where a file of a version belongs: refused, never followed."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from homeostat.errors import ArtifactError, SuspectArtifact
from models import load_model
from registry.cache import ArtifactCache

if TYPE_CHECKING:
    from tests.unit.hostile.conftest import Version

FILES = ("model.safetensors", "learner.json", "manifest.json", "profile.json", "golden.json")


def symlink(path: Path) -> None:
    path.symlink_to(outside_of(path))


def outside_of(path: Path) -> Path:
    target = path.parent.parent / "outside"
    target.write_bytes(b"outside")
    return target


def whole_symlink(path: Path) -> None:
    """Even to what the manifest asks for: the link could point elsewhere in a moment."""
    path.symlink_to(path.parent.parent / f"kept-{path.name}")


def hard_link(path: Path) -> None:
    os.link(outside_of(path), path)


def dangling(path: Path) -> None:
    path.symlink_to(path.parent.parent / "nowhere")


def loop(path: Path) -> None:
    path.symlink_to(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def password_file(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def fifo(path: Path) -> None:
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.mkdir()
    (path / path.name).write_bytes(b"inside")


def device(path: Path) -> None:
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        path.symlink_to("/dev/full")


def unix_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket has a short limit
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(here)


def terabyte(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)  # sparse: on no disk


def missing(path: Path) -> None:
    assert not path.exists()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "place",
    [
        symlink,
        whole_symlink,
        hard_link,
        dangling,
        loop,
        endless,
        password_file,
        fifo,
        directory,
        device,
        unix_socket,
        terabyte,
        missing,
    ],
)
def test_what_is_no_file_of_its_own_is_refused_without_being_opened_for_long(
    version: Version, name: str, place: Callable[[Path], None]
) -> None:
    path = version.folder / name
    path.rename(version.folder.parent / f"kept-{name}")
    place(path)
    with pytest.raises(ArtifactError):
        load_model(version.folder, allowed={"digits"}, digest=version.digest)


@pytest.mark.parametrize("place", [symlink, fifo, directory, terabyte, dangling])
def test_what_stands_where_a_copy_belongs_is_taken_away(
    registered: Version, tmp_path: Path, place: Callable[[Path], None]
) -> None:
    digest = registered.digest
    cache = ArtifactCache(tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    place(tmp_path / "cache" / digest)
    assert cache.find(digest, "model") is None
    copy = cache.store(digest, "model", registered.store.download)
    assert cache.find(digest, "model") == copy
    if place is symlink:
        assert (tmp_path / "outside").read_bytes() == b"outside"


def test_a_folder_behind_a_link_is_refused(registered: Version, tmp_path: Path) -> None:
    (tmp_path / "model").symlink_to(registered.folder)
    with pytest.raises(SuspectArtifact, match="is a link"):
        load_model(tmp_path / "model", allowed={"digits"}, digest=registered.digest)
