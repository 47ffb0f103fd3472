"""A version whose folder an enemy may change, and the three doors that must all refuse it."""

from __future__ import annotations

import json
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from homeostat.errors import ArtifactError, HomeostatError, SuspectArtifact
from homeostat.settings import Settings
from models import Digits, load_model, save_model, write_manifest
from monitoring.profile import Profile
from registry.cache import ArtifactCache
from serving.library import Library

LEARNER = Digits(channels=2, hidden=8)
LIMIT_SECONDS = 5.0  # of the processor, for one case
LIMIT_MEMORY = 256 * 1024  # KiB that the process may grow by, all cases together


class LyingStore:
    """A server that answers with the files of a folder, however they were made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.asked: list[str] = []

    def download(self, name: str, limit: int) -> bytes:
        self.asked.append(name)
        path = self._folder / name
        if not path.is_file():
            raise ArtifactError(f"there is no {name}")
        with path.open("rb") as file:
            return file.read(limit + 1)

    def fetch(
        self,
        model: str,  # noqa: ARG002 - the signature of the store
        version: int,  # noqa: ARG002
        cache_dir: Path,
        part: str = "model",
        digest: str | None = None,
    ) -> Path:
        assert digest is not None
        cache = ArtifactCache(cache_dir)
        return cache.find(digest, part) or cache.store(digest, part, self.download)


class Version:
    """The folder of a version, the digest that it was registered under, a server that has it."""

    def __init__(self, folder: Path, digest: str) -> None:
        self.folder = folder
        self.digest = digest
        self.store = LyingStore(folder)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)

    def seal(self) -> str:
        """As an enemy would who knows how: the digest of what is there now."""
        (self.folder / "manifest.json").unlink(missing_ok=True)
        return write_manifest(self.folder)

    def library(self) -> Library:
        """The gateway's."""
        return Library(Settings(state_dir=self.folder.parent / "state"), self.store)

    def kept_out(self, digest: str) -> None:
        """The gateway refuses the folder as what was registered under a digest."""
        library = self.library()
        with pytest.raises(HomeostatError):
            library.load("digits", 1, digest)

    def refused_by_all_doors(self, digest: str) -> None:
        """Through each door the folder is refused as what was registered under a digest."""
        with pytest.raises(ArtifactError) as caught:
            load_model(self.folder, allowed={"digits"}, digest=digest)
        assert caught.value.remedy
        library = self.library()
        with pytest.raises(HomeostatError) as again:
            library.load("digits", 1, digest)
        assert str(again.value)
        if isinstance(again.value, SuspectArtifact):
            (suspect,) = library.suspects("digits")
            assert suspect.digest == digest
        cache = self.folder.parent / "state" / "versions"
        assert not list(cache.glob(".making-*"))


def save(folder: Path, seed: int) -> Version:
    module = LEARNER.build(torch.Generator().manual_seed(seed))
    rows = [[float((n * k) % 17) for k in range(64)] for n in range(40)]
    x = LEARNER.encode(rows)
    outputs = LEARNER.predict(module, x)
    profile = Profile.from_reference(
        LEARNER.features,
        LEARNER.task,
        LEARNER.observe(x),
        LEARNER.predicted(outputs),
        LEARNER.confidence(outputs),
        [0.0] * len(rows),
    )
    golden = json.dumps({"rows": rows[:2], "outputs": outputs[:2].tolist()})
    extra = {"profile.json": profile.to_json().encode(), "golden.json": golden.encode()}
    return Version(folder, save_model(folder, "digits", LEARNER, module, extra))


@pytest.fixture(scope="session")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """A valid version, to be copied."""
    return save(tmp_path_factory.mktemp("registered") / "model", 0)


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """Another valid version."""
    return save(tmp_path_factory.mktemp("other") / "model", 1)


@pytest.fixture
def version(registered: Version, tmp_path: Path) -> Version:
    """A copy of the registered version, to be changed."""
    shutil.copytree(registered.folder, tmp_path / "model")
    return Version(tmp_path / "model", registered.digest)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """What an attack leaves behind if it is executed."""
    return tmp_path / "executed"


@pytest.fixture(autouse=True)
def nothing_runs_and_nothing_swells(canary: Path) -> Iterator[None]:
    started, spent, size = time.monotonic(), time.process_time(), peak()
    yield
    assert not canary.exists()
    assert time.process_time() - spent < LIMIT_SECONDS
    assert time.monotonic() - started < 10 * LIMIT_SECONDS  # others may be using the cores
    assert peak() - size < LIMIT_MEMORY


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
