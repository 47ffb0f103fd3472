"""Manifests that an enemy wrote: names that lead elsewhere, entries that lie, other words."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from homeostat.errors import SuspectArtifact
from registry.cache import ArtifactCache

if TYPE_CHECKING:
    from tests.unit.hostile.conftest import Version

MANIFEST, PROFILE = "manifest.json", "profile.json"
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


def forge(version: Version, files: Any, **more: Any) -> str:  # noqa: ANN401 - any JSON
    content = json.dumps(
        {"schema": 1, "files": files, **more}, sort_keys=True, separators=(",", ":")
    )
    version.write(MANIFEST, content.encode())
    return hashlib.sha256(version.read(MANIFEST)).hexdigest()


def entries_of(version: Version) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(version.read(MANIFEST))["files"]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_leads_elsewhere_is_refused_before_it_is_asked_for(
    version: Version, name: str
) -> None:
    entries = entries_of(version)
    digest = forge(version, entries | {name: entries[PROFILE]})
    cache = ArtifactCache(version.folder.parent / "cache")
    with pytest.raises(SuspectArtifact):
        cache.store(digest, "model", version.store.download)
    assert version.store.asked == [MANIFEST]
    version.refused_by_all_doors(digest)
    assert not (version.folder.parent / "evil").exists()


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
def test_a_manifest_that_lies_of_a_file_is_refused(
    version: Version, change: dict[str, Any]
) -> None:
    entries = entries_of(version)
    entries[PROFILE] |= change
    version.refused_by_all_doors(forge(version, entries))


@pytest.mark.parametrize(
    "files", [[], None, 1, "x", {}, {"a": None}, {"a": []}, {"a": {}}, {"A": 1, "a": 1}], ids=str
)
def test_a_manifest_of_another_shape_is_refused(version: Version, files: Any) -> None:  # noqa: ANN401 - any JSON
    version.refused_by_all_doors(forge(version, files))


def test_names_that_some_disks_take_for_one_are_refused(version: Version) -> None:
    entries = entries_of(version)
    shutil.copy(version.folder / PROFILE, version.folder / "Profile.json")
    version.refused_by_all_doors(forge(version, entries | {"Profile.json": entries[PROFILE]}))


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
def test_a_manifest_in_other_words_is_refused(version: Version, name: str) -> None:
    content = MANIFESTS[name](version.read(MANIFEST))
    version.write(MANIFEST, content)
    version.refused_by_all_doors(hashlib.sha256(content).hexdigest())
