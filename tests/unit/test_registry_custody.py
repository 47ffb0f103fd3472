"""Pins hold every byte of what they are for, on a disk that may be full or lose its power."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from homeostat.errors import ArtifactError
from models import write_manifest
from registry.cache import ArtifactCache, Download
from registry.custody import Pin, Pins

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def served(folder: Path, **files: bytes) -> tuple[str, Download]:
    """A sealed folder as a server gives it: its digest, and how its files are downloaded."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    digest = write_manifest(folder)
    return digest, lambda name, limit: (folder / name).read_bytes()[: limit + 1]


def pinned(tmp_path: Path, role: str = "champion") -> tuple[ArtifactCache, Pin]:
    cache = ArtifactCache(tmp_path / "cache")
    digest, model = served(tmp_path / "model", weights=b"weights")
    cache.store(digest, "model", model)
    seal, replay = served(tmp_path / "replay", memory=b"rows")
    cache.store(digest, "replay", replay)
    seals = {"model": digest, "replay": seal}
    return cache, Pins(cache).keep(Pin("digits", 3, digest, "r", role, 7, seals, NOW))


def spoil(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def test_what_is_kept_cannot_be_written_by_mistake(tmp_path: Path) -> None:
    cache, pin = pinned(tmp_path)
    files = [
        path
        for part in ("", ".replay")
        for path in (cache.folder / f"{pin.digest}{part}").iterdir()
    ]
    assert len(files) == 4
    assert {path.stat().st_mode & 0o777 for path in files} == {0o444}


def test_a_pin_finds_each_changed_byte_of_each_part(tmp_path: Path) -> None:
    cache, pin = pinned(tmp_path)
    pins = Pins(cache)
    assert pins.find("digits", 3) == pin
    assert pins.of("digits") == [pin]
    assert pins.faults(pin) == {}
    spoil(cache.folder / f"{pin.digest}.replay" / "memory")
    assert "memory" in pins.faults(pin)["replay"]
    # Replaced by something else that is whole in itself: no spoilt copy, but not what was kept.
    other = cache.folder / f"{pin.digest}.replay"
    write_text(other / "memory", b"other")
    (other / "manifest.json").chmod(0o644)
    write_manifest(other)
    assert "registered" in pins.faults(pin)["replay"]


def write_text(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def test_a_spoilt_copy_stays_until_a_good_one_has_come(tmp_path: Path) -> None:
    cache, pin = pinned(tmp_path)
    memory = cache.folder / f"{pin.digest}.replay" / "memory"
    spoil(memory)

    def away(name: str, limit: int) -> bytes:
        raise ArtifactError(f"{name} of {limit}")

    with pytest.raises(ArtifactError):
        cache.renew(pin.digest, "replay", away, pin.seals["replay"])
    assert memory.read_bytes() == b"row?"
    good = tmp_path / "replay"
    cache.renew(pin.digest, "replay", lambda n, m: (good / n).read_bytes()[:m], pin.seals["replay"])
    assert memory.read_bytes() == b"rows"
    assert sorted(path.name for path in cache.folder.iterdir()) == sorted(
        [pin.digest, f"{pin.digest}.replay", "pins"]
    )


def test_pruning_leaves_what_is_pinned_and_its_pin_goes_with_the_copy(tmp_path: Path) -> None:
    cache, pin = pinned(tmp_path)
    pins = Pins(cache)
    later = datetime.fromtimestamp(time.time() + 60, UTC)
    assert cache.prune(pins.pinned(), later) == []
    pins.release("digits", 3)
    assert pins.find("digits", 3) is not None  # the copy can still be restored from
    assert pins.pinned() == set()
    removed = cache.prune(pins.pinned(), later)
    assert sorted(removed) == [pin.digest, f"{pin.digest}.replay"]
    pins.drop(set(removed))
    assert pins.of("digits") == []


@pytest.mark.parametrize("model", ["a/b", "..", "ä b", "../../x"])
def test_a_pin_stays_below_its_folder_whatever_the_model_is_called(
    model: str, tmp_path: Path
) -> None:
    pins = Pins(ArtifactCache(tmp_path / "cache"))
    pin = pins.keep(Pin(model, 1, "a" * 64, "", "champion", 1, {}, NOW))
    assert pins.of(model) == [pin]
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert path.parent.parent == tmp_path / "cache" / "pins"


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """The kernel refuses to let a file grow beyond a size, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_disk_that_takes_no_more_leaves_no_half_copy(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path / "cache")
    digest, model = served(tmp_path / "model", weights=b"w" * 100_000)
    with files_at_most(50_000), pytest.raises(OSError, match="large"):
        cache.store(digest, "model", model)
    assert list(cache.folder.iterdir()) == []
    cache.store(digest, "model", model)
    assert cache.find(digest, "model") is not None


def test_a_process_that_dies_while_it_stores_leaves_a_whole_copy_or_none(tmp_path: Path) -> None:
    digest, _ = served(tmp_path / "model", weights=b"w" * 1000, profile=b"{}")
    code = (
        "import os, sys; from pathlib import Path; from registry.cache import ArtifactCache\n"
        "made, cache, digest, last = Path(sys.argv[1]), *sys.argv[2:]\n"
        "def download(name, limit):\n"
        "    if name == last: os._exit(9)\n"
        "    return (made / name).read_bytes()\n"
        "ArtifactCache(Path(cache)).store(digest, 'model', download)\n"
    )
    folder = tmp_path / "cache"
    arguments = [str(tmp_path / "model"), str(folder), digest, "weights"]
    died = subprocess.run([sys.executable, "-c", code, *arguments], env=os.environ, check=False)
    assert died.returncode == 9
    cache = ArtifactCache(folder)
    assert cache.find(digest, "model") is None
    assert [path.name.startswith(".making-") for path in folder.iterdir()] == [True]
    cache.store(
        digest, "model", lambda name, limit: (tmp_path / "model" / name).read_bytes()[:limit]
    )
    assert cache.find(digest, "model") is not None
    later = datetime.fromtimestamp(time.time() + 60, UTC)
    cache.prune({digest}, later)
    assert [path.name for path in folder.iterdir()] == [digest]
