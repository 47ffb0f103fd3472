"""Artifacts as an enemy would make them: none is loaded, none is executed, each refusal is typed.

Every case goes through three doors: `load_model`, the cache's download from a server that lies,
and the gateway's library. Cases of two kinds: a registered folder that was changed afterwards, and
one that its enemy sealed anew, whose digest is therefore right.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import pickle
import resource
import shutil
import socket
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from homeostat.errors import ArtifactError, HomeostatError, SuspectArtifact
from homeostat.settings import Settings
from models import Digits, load_model, save_model, verify, write_manifest
from models.scan import scan
from monitoring.profile import Profile
from registry.cache import ArtifactCache
from serving.library import Library

LEARNER = Digits(channels=2, hidden=8)
WEIGHTS, DESCRIPTION, MANIFEST = "model.safetensors", "learner.json", "manifest.json"
PROFILE, GOLDEN = "profile.json", "golden.json"
FILES = (WEIGHTS, DESCRIPTION, MANIFEST, PROFILE, GOLDEN)
PLACES = 64
LIMIT_SECONDS = 5.0  # of the processor, for one case
LIMIT_MEMORY = 256 * 1024  # KiB that the process may grow by, all cases together


def save(folder: Path, seed: int) -> str:
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
    extra = {PROFILE: profile.to_json().encode(), GOLDEN: golden.encode()}
    return save_model(folder, "digits", LEARNER, module, extra)


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("registered") / "model"
    return folder, save(folder, 0)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Another valid version."""
    folder = tmp_path_factory.mktemp("other") / "model"
    return folder, save(folder, 1)


@pytest.fixture
def folder(registered: tuple[Path, str], tmp_path: Path) -> Path:
    copy = tmp_path / "model"
    shutil.copytree(registered[0], copy)
    return copy


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


class LyingStore:
    """A server that answers with the files of a folder, however they were made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def download(self, name: str, limit: int) -> bytes:
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


def refused_by_all_doors(folder: Path, digest: str) -> None:
    """Through each door the folder is refused as what was registered under a digest."""
    cache = folder.parent / "state" / "versions"
    with pytest.raises(ArtifactError) as caught:
        load_model(folder, allowed={"digits"}, digest=digest)
    assert caught.value.remedy
    store = LyingStore(folder)
    library = Library(Settings(state_dir=folder.parent / "state"), store)
    with pytest.raises(HomeostatError) as again:
        library.load("digits", 1, digest)
    assert str(again.value)
    if isinstance(again.value, SuspectArtifact):
        (suspect,) = library.suspects("digits")
        assert suspect.digest == digest
    assert not list(cache.glob(".making-*"))


def seal(folder: Path) -> str:
    """As an enemy would who knows how."""
    (folder / MANIFEST).unlink(missing_ok=True)
    return write_manifest(folder)


# A registered folder that was changed afterwards.


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", range(PLACES))
def test_a_file_cut_at_any_place_is_refused(
    folder: Path, registered: tuple[Path, str], name: str, place: int
) -> None:
    path = folder / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * place // PLACES])
    refused_by_all_doors(folder, registered[1])


def flip(content: bytes, place: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 1 << place % 8
    return bytes(changed)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", range(PLACES))
def test_one_bit_flipped_at_any_place_is_refused(
    folder: Path, registered: tuple[Path, str], name: str, place: int
) -> None:
    path = folder / name
    content = path.read_bytes()
    path.write_bytes(flip(content, len(content) * place // PLACES))
    refused_by_all_doors(folder, registered[1])


@pytest.mark.parametrize("place", range(PLACES))
def test_one_bit_flipped_in_the_header_of_the_weights_is_refused(
    folder: Path, registered: tuple[Path, str], place: int
) -> None:
    path = folder / WEIGHTS
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    path.write_bytes(flip(content, header * place // PLACES))
    refused_by_all_doors(folder, registered[1])


@pytest.mark.parametrize("name", [*FILES, "all"])
def test_the_files_of_another_version_are_refused_under_this_digest(
    folder: Path, registered: tuple[Path, str], other: tuple[Path, str], name: str
) -> None:
    for each in FILES if name == "all" else (name,):
        shutil.copy(other[0] / each, folder / each)
    if name == DESCRIPTION:  # both versions have the same one: then nothing was changed
        assert verify(folder, registered[1]) == registered[1]
        return
    refused_by_all_doors(folder, registered[1])


def test_a_whole_other_version_is_whole_under_its_own_digest(other: tuple[Path, str]) -> None:
    """The cases above are refused for what was done to them, not for what they are."""
    assert load_model(other[0], allowed={"digits"}, digest=other[1]).digest == other[1]
    assert str(scan(*other)).endswith("json, safetensors: no code")


# What is no plain file.


def outside(folder: Path) -> Path:
    path = folder.parent / "outside"
    path.write_bytes((folder / WEIGHTS).read_bytes())
    return path


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
    folder: Path, registered: tuple[Path, str], name: str, place: Callable[[Path], None]
) -> None:
    path = folder / name
    path.rename(folder.parent / f"kept-{name}")
    place(path)
    with pytest.raises(ArtifactError):
        load_model(folder, allowed={"digits"}, digest=registered[1])


@pytest.mark.parametrize("place", [symlink, fifo, directory, terabyte, dangling])
def test_what_stands_where_a_copy_belongs_is_taken_away(
    registered: tuple[Path, str], tmp_path: Path, place: Callable[[Path], None]
) -> None:
    source, digest = registered
    cache = ArtifactCache(tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    place(tmp_path / "cache" / digest)
    assert cache.find(digest, "model") is None
    copy = cache.store(digest, "model", LyingStore(source).download)
    assert cache.find(digest, "model") == copy
    if place is symlink:
        assert (tmp_path / "outside").read_bytes() == b"outside"


def test_a_folder_behind_a_link_is_refused(registered: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "model").symlink_to(registered[0])
    with pytest.raises(SuspectArtifact, match="is a link"):
        load_model(tmp_path / "model", allowed={"digits"}, digest=registered[1])


# A manifest that its enemy wrote.

LOOKALIKES = ["\u2024\u2024/evil", "\uff0e\uff0e\uff0fevil", "mod\u0435l.json", "a\u202ejson.exe"]
NAMES = [
    *[
        "../evil",
        "..",
        ".",
        "../../../../etc/passwd",
        "/etc/passwd",
        "//etc/passwd",
        "a/b",
        "a/../b",
    ],
    *[
        "a\\b",
        "..\\evil",
        "..\\..\\evil",
        "C:\\evil",
        "C:evil",
        "\\\\host\\share",
        "a/",
        "/",
        "./a",
    ],
    *["%2e%2e%2fevil", "%252e%252e%252fevil", "..%2fevil", "..%5cevil", "%00", "a%00b", "..;/evil"],
    *[
        "a\0b",
        "\0",
        "a\nb",
        "a\rb",
        "a b",
        " a",
        "a ",
        "\ta",
        "\x7f",
        "",
        ".hidden",
        "-rf",
        "~",
        "~root",
    ],
    *["x" * 129, "x" * 5000, "ä", "a:b", "a*", "a|b", "$HOME", "`id`", "con/aux", "manifest.json"],
    *LOOKALIKES,
]


def forge(folder: Path, files: Any, **more: Any) -> str:  # noqa: ANN401 - any JSON
    content = json.dumps(
        {"schema": 1, "files": files, **more}, sort_keys=True, separators=(",", ":")
    )
    (folder / MANIFEST).write_text(content)
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


def entries_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / MANIFEST).read_text())["files"]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_leads_elsewhere_is_refused_before_it_is_asked_for(
    folder: Path, name: str
) -> None:
    entries = entries_of(folder)
    digest = forge(folder, entries | {name: entries[PROFILE]})
    asked: list[str] = []

    def download(path: str, limit: int) -> bytes:
        asked.append(path)
        return LyingStore(folder).download(path, limit)

    with pytest.raises(SuspectArtifact):
        ArtifactCache(folder.parent / "cache").store(digest, "model", download)
    assert asked == [MANIFEST]
    refused_by_all_doors(folder, digest)
    assert not (folder.parent / "evil").exists()


ENTRIES: list[Any] = [
    {"bytes": -1},
    {"bytes": 2**40},
    {"bytes": 2**70},
    {"bytes": 0},
    {"bytes": 1.0},
    {"bytes": True},
    {"bytes": "1"},
    {"bytes": None},
    {"bytes": [1]},
    {"bytes": 1e400},
    {"bytes": float("nan")},
    {"sha256": "0" * 64},
    {"sha256": "A" * 64},
    {"sha256": "0" * 63},
    {"sha256": ""},
    {"sha256": None},
    {"sha256": 7},
    {"more": 1},
]


@pytest.mark.parametrize("change", ENTRIES, ids=str)
def test_a_manifest_that_lies_of_a_file_is_refused(folder: Path, change: dict[str, Any]) -> None:
    entries = entries_of(folder)
    entries[PROFILE] |= change
    refused_by_all_doors(folder, forge(folder, entries))


@pytest.mark.parametrize(
    "files", [[], None, 1, "x", {}, {"a": None}, {"a": []}, {"a": {}}, {"A": 1, "a": 1}], ids=str
)
def test_a_manifest_of_another_shape_is_refused(folder: Path, files: Any) -> None:  # noqa: ANN401 - any JSON
    refused_by_all_doors(folder, forge(folder, files))


def test_names_that_some_disks_take_for_one_are_refused(folder: Path) -> None:
    entries = entries_of(folder)
    shutil.copy(folder / PROFILE, folder / "Profile.json")
    refused_by_all_doors(folder, forge(folder, entries | {"Profile.json": entries[PROFILE]}))


def doubled(manifest: bytes) -> bytes:
    return manifest[:-1] + b',"schema":1}'


MANIFESTS: dict[str, Callable[[bytes], bytes]] = {
    "a name twice": doubled,
    "spaces": lambda manifest: manifest.replace(b":", b": "),
    "a line end": lambda manifest: manifest + b"\n",
    "a byte order mark": lambda manifest: b"\xef\xbb\xbf" + manifest,
    "utf-16": lambda manifest: manifest.decode().encode("utf-16"),
    "another schema": lambda manifest: manifest.replace(b'"schema":1', b'"schema":2'),
    "a schema of another kind": lambda manifest: manifest.replace(b'"schema":1', b'"schema":"1"'),
    "two values": lambda manifest: manifest * 2,
    "deep lists": lambda _: b"[" * 100_000,
    "deep objects": lambda _: b'{"a":' * 40_000,
    "deep and closed": lambda _: b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "a long number": lambda _: b'{"schema":' + b"9" * 200_000 + b"}",
    "NaN": lambda _: b'{"files":{},"schema":NaN}',
    "too large": lambda manifest: manifest + b" " * 256 * 1024,
    "empty": lambda _: b"",
    "nothing": lambda _: b"null",
    "a pickle": lambda manifest: pickle.dumps(manifest),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_in_other_words_is_refused(folder: Path, name: str) -> None:
    content = MANIFESTS[name]((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_bytes(content)
    refused_by_all_doors(folder, hashlib.sha256(content).hexdigest())


# Weights that their enemy wrote.


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
def test_forged_weights_are_refused(folder: Path, name: str) -> None:
    (folder / WEIGHTS).write_bytes(SAFETENSORS[name]())
    refused_by_all_doors(folder, seal(folder))


# JSON that its enemy wrote.

CONFIG = LEARNER.config()
HUGE: list[Any] = [10**9, 2**31, 2**63, 2**70, -1, 0, 1e9, 1e400, None, "8", True, [8], {}]


def described(**changes: Any) -> bytes:  # noqa: ANN401 - any JSON
    whole = {"schema": 1, "learner": "digits", "config": CONFIG} | changes
    return json.dumps(whole).encode()


DESCRIPTIONS: dict[str, Callable[[], bytes]] = {
    **{
        f"{field} {value}": partial(described, config=CONFIG | {field: value})
        for field in ("hidden", "channels")
        for value in HUGE
        if value is not True
    },
    "a field too many": lambda: described(config=CONFIG | {"__reduce__": "os.system"}),
    "no config": lambda: described(config={}),
    "a list for config": lambda: described(config=[]),
    "another schema": lambda: described(schema=2),
    "a name twice": lambda: described()[:-1] + b',"learner":"os:system"}',
    "a config twice": lambda: described()[:-1] + b',"config":{}}',
    "deep lists": lambda: b"[" * 200_000,
    "deep in its config": lambda: (
        b'{"schema":1,"learner":"digits","config":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001
    ),
    "NaN": lambda: b'{"schema":1,"learner":"digits","config":{"hidden":NaN}}',
    "Infinity": lambda: b'{"schema":1,"learner":"digits","config":{"hidden":Infinity}}',
    "a long number": lambda: (
        b'{"schema":1,"learner":"digits","config":{"hidden":%s}}' % (b"9" * 100_000)
    ),
    "half a surrogate": lambda: b'{"schema":1,"learner":"\\ud800","config":{}}',
    "17 MiB": lambda: b'{"a":"' + b"x" * 17 * 1024 * 1024 + b'"}',
    "YAML": lambda: b"!!python/object/apply:os.system ['true']",
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_a_forged_description_is_refused(folder: Path, name: str) -> None:
    (folder / DESCRIPTION).write_bytes(DESCRIPTIONS[name]())
    refused_by_all_doors(folder, seal(folder))


REFERENCES = [
    *[
        "os:system",
        "builtins:eval",
        "builtins:exec",
        "subprocess:Popen",
        "posix:system",
        "pickle:loads",
    ],
    *["importlib:import_module", "shutil:rmtree", "models.artifact:load_model", "torch:load"],
    *["os.path:join", "digits:", ":digits", "models.digits:Digits", "DIGITS", "digits ", " digits"],
    *[
        "d\u0456gits",
        "digits\0",
        "../digits",
        "/etc/passwd",
        "",
        "x" * 10_000,
        "table\n",
        "sys:modules",
    ],
]


@pytest.mark.parametrize("reference", REFERENCES)
def test_code_that_a_version_names_is_not_looked_up(
    folder: Path, canary: Path, reference: str
) -> None:
    config = {"command": f"touch {canary}", "args": [f"open({str(canary)!r}, 'w')"]}
    (folder / DESCRIPTION).write_bytes(described(learner=reference, config=config))
    digest = seal(folder)
    for allowed in ({"digits"}, set[str](), {"digits", "table"}):
        with pytest.raises(ArtifactError, match="not allowed here"):
            load_model(folder, allowed=allowed, digest=digest)
    refused_by_all_doors(folder, digest)


FORGED_EXTRAS: dict[str, Callable[[bytes], bytes]] = {
    "a list": lambda _: b"[]",
    "nothing": lambda _: b"",
    "not text": lambda _: b"\xff\xfe\x00",
    "deep lists": lambda _: b"[" * 200_000,
    "NaN for a number": lambda text: text.replace(b"0.0", b"NaN", 1),
    "too large a number": lambda text: text.replace(b"0.0", b"1e999", 1),
    "text for a number": lambda text: text.replace(b"0.0", b'"0.0"', 1),
    "a pickle": lambda text: pickle.dumps(text),
}


@pytest.mark.parametrize("file", [PROFILE, GOLDEN])
@pytest.mark.parametrize("name", FORGED_EXTRAS)
def test_a_forged_profile_or_golden_file_keeps_the_version_out(
    folder: Path, file: str, name: str
) -> None:
    content = FORGED_EXTRAS[name]((folder / file).read_bytes())
    (folder / file).write_bytes(content)
    digest = seal(folder)
    library = Library(Settings(state_dir=folder.parent / "state"), LyingStore(folder))
    with pytest.raises(HomeostatError):
        library.load("digits", 1, digest)


@pytest.mark.parametrize(
    "golden",
    [
        {"rows": [[0.0] * 64], "outputs": [[1.0], [0.5, 0.5]]},
        {"rows": [[0.0] * 64], "outputs": []},
        {"rows": [[0.0] * 64], "outputs": [[0.5] * 9]},
        {"rows": [[0.0] * 63], "outputs": [[0.1] * 10]},
        {"rows": ["import os"], "outputs": [[0.1] * 10]},
        {"rows": [[1e30] * 64], "outputs": [[0.1] * 10]},
    ],
    ids=str,
)
def test_golden_rows_that_are_answered_otherwise_keep_the_version_out(
    folder: Path, golden: dict[str, Any]
) -> None:
    (folder / GOLDEN).write_text(json.dumps(golden))
    library = Library(Settings(state_dir=folder.parent / "state"), LyingStore(folder))
    digest = seal(folder)
    with pytest.raises(HomeostatError):
        library.load("digits", 1, digest)


# Pickles in disguise; each would leave the canary behind.


class Trap:
    """Leaves the canary when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.canary,)


def torch_zip(canary: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"weight": Trap(canary)}, buffer)
    return buffer.getvalue()


def torch_legacy(canary: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"weight": Trap(canary)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def numpy_objects(canary: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Trap(canary)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def joblib_dump(canary: Path) -> bytes:
    import joblib  # type: ignore[import-untyped]  # it ships no types

    buffer = io.BytesIO()
    joblib.dump(Trap(canary), buffer)
    return buffer.getvalue()


def skops_like(canary: Path) -> bytes:
    buffer = io.BytesIO()
    schema = {"__loader__": "ReduceNode", "__module__": "os", "__class__": "system", "content": {}}
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("schema.json", json.dumps(schema))
        archive.writestr("0.pkl", pickle.dumps(Trap(canary)))
    return buffer.getvalue()


def behind_a_header(canary: Path) -> bytes:
    """The weights of a good file whose tail is a pickle."""
    return tensor() + pickle.dumps(Trap(canary))


def in_a_header(canary: Path) -> bytes:
    text = base64.b64encode(pickle.dumps(Trap(canary))).decode()
    return header({"__metadata__": {"loader": text}, **TWO})


DISGUISES = {
    "plain": lambda canary: pickle.dumps(Trap(canary)),
    "protocol 0": lambda canary: pickle.dumps(Trap(canary), protocol=0),
    "gzip": lambda canary: gzip.compress(pickle.dumps(Trap(canary))),
    "torch": torch_zip,
    "torch before zips": torch_legacy,
    "numpy": numpy_objects,
    "joblib": joblib_dump,
    "skops": skops_like,
    "behind weights": behind_a_header,
    "in a header": in_a_header,
}


@pytest.mark.parametrize("file", [WEIGHTS, DESCRIPTION, PROFILE, GOLDEN, MANIFEST])
@pytest.mark.parametrize("name", DISGUISES)
def test_a_pickle_in_disguise_is_refused_and_never_run(
    folder: Path, canary: Path, file: str, name: str
) -> None:
    (folder / file).write_bytes(DISGUISES[name](canary))
    digest = (
        hashlib.sha256((folder / file).read_bytes()).hexdigest()
        if file == MANIFEST
        else seal(folder)
    )
    library = Library(Settings(state_dir=folder.parent / "state"), LyingStore(folder))
    with pytest.raises(HomeostatError):
        library.load("digits", 1, digest)
    with pytest.raises(ArtifactError):
        scan(folder)


@pytest.mark.parametrize("where", ["config", "a value of it", "the learner"])
def test_a_pickle_as_text_in_the_description_stays_text(
    folder: Path, canary: Path, where: str
) -> None:
    import cloudpickle  # type: ignore[import-untyped]  # it ships no types

    text = base64.b64encode(cloudpickle.dumps(Trap(canary))).decode()
    places: dict[str, dict[str, Any]] = {
        "config": {"config": {"cloudpickle": text}},
        "a value of it": {"config": CONFIG | {"hidden": text}},
        "the learner": {"learner": text},
    }
    (folder / DESCRIPTION).write_bytes(described(**places[where]))
    refused_by_all_doors(folder, seal(folder))


def test_the_canary_sings_when_a_pickle_is_run(canary: Path, tmp_path: Path) -> None:
    """Else the tests above would prove nothing."""
    mine = tmp_path / "mine"
    pickle.loads(DISGUISES["plain"](mine))  # noqa: S301 - our own
    assert mine.exists()
    assert not canary.exists()


def test_a_suspect_is_not_fetched_again_at_every_look(
    registered: tuple[Path, str], folder: Path
) -> None:
    asked: list[str] = []

    class Counting(LyingStore):
        def download(self, name: str, limit: int) -> bytes:
            asked.append(name)
            return super().download(name, limit)

    (folder / WEIGHTS).write_bytes(b"x")
    library = Library(Settings(state_dir=folder.parent / "state"), Counting(folder))
    for _ in range(3):
        with pytest.raises(SuspectArtifact):
            library.load("digits", 1, registered[1])
    assert asked.count(WEIGHTS) == 1
