"""Copies of artifacts are whole, confined and verified, whatever the server sends."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from homeostat.errors import ArtifactError, Unavailable
from models import write_manifest
from registry.cache import ArtifactCache
from registry.json_text import canonical, from_json, storable, to_json


class Store:
    """What a server would send: files by name; it notes what was asked for."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.asked: list[str] = []

    def __call__(self, name: str, limit: int) -> bytes:
        self.asked.append(name)
        if name not in self.files:
            raise ArtifactError(f"no {name}")
        return self.files[name][: limit + 1]


def sealed(folder: Path) -> tuple[str, dict[str, bytes]]:
    folder.mkdir()
    (folder / "learner.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    digest = write_manifest(folder)
    return digest, {path.name: path.read_bytes() for path in folder.iterdir()}


def forged(files: dict[str, Any]) -> tuple[str, dict[str, bytes]]:
    manifest = canonical({"schema": 1, "files": files}).encode()
    digest = hashlib.sha256(manifest).hexdigest()
    return digest, {"manifest.json": manifest} | dict.fromkeys(files, b"x")


def test_a_whole_artifact_is_stored_by_its_digest_and_found_again(tmp_path: Path) -> None:
    digest, files = sealed(tmp_path / "made")
    cache = ArtifactCache(tmp_path / "cache")
    assert cache.find(digest, "model") is None
    copy = cache.store(digest, "model", Store(files))
    assert copy == tmp_path / "cache" / digest
    assert cache.find(digest, "model") == copy
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [digest]
    assert cache.store(digest, "model", Store(files)) == copy


def test_a_spoilt_copy_is_removed(tmp_path: Path) -> None:
    digest, files = sealed(tmp_path / "made")
    cache = ArtifactCache(tmp_path / "cache")
    copy = cache.store(digest, "model", Store(files))
    (copy / "model.safetensors").chmod(0o644)  # as it is kept nobody writes it by mistake
    (copy / "model.safetensors").write_bytes(b"weightz")
    assert cache.find(digest, "model") is None
    assert not copy.exists()


def test_what_does_not_arrive_leaves_nothing_behind(tmp_path: Path) -> None:
    digest, files = sealed(tmp_path / "made")
    cache = ArtifactCache(tmp_path / "cache")

    def cut(name: str, limit: int) -> bytes:
        if name == "model.safetensors":
            raise Unavailable("cut off")
        return files[name][:limit]

    with pytest.raises(Unavailable):
        cache.store(digest, "model", cut)
    assert list((tmp_path / "cache").iterdir()) == []


def test_every_changed_byte_is_refused(tmp_path: Path) -> None:
    digest, files = sealed(tmp_path / "made")
    cache = ArtifactCache(tmp_path / "cache")
    for name, content in files.items():
        for place in range(len(content)):
            changed = bytearray(content)
            changed[place] ^= 1
            with pytest.raises(ArtifactError):
                cache.store(digest, "model", Store(files | {name: bytes(changed)}))
        with pytest.raises(ArtifactError):
            cache.store(digest, "model", Store(files | {name: content[:-1]}))
        with pytest.raises(ArtifactError):
            cache.store(digest, "model", Store(files | {name: content + b" "}))
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "..",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "..\\evil",
        "%2e%2e%2fevil",
        "a\0b",
        "manifest.json",
        "",
        ".hidden",
        "ä",
        "x" * 200,
        "\u2024\u2024/evil",
    ],
)
def test_a_manifest_that_names_another_place_is_refused_before_it_is_asked_for(
    name: str, tmp_path: Path
) -> None:
    digest, files = forged({name: {"sha256": hashlib.sha256(b"x").hexdigest(), "bytes": 1}})
    files["manifest.json"] = canonical(
        {"schema": 1, "files": {name: {"sha256": hashlib.sha256(b"x").hexdigest(), "bytes": 1}}}
    ).encode()
    store = Store(files)
    with pytest.raises(ArtifactError):
        ArtifactCache(tmp_path / "cache").store(digest, "model", store)
    assert store.asked == ["manifest.json"]
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    "files", [{"a": {"bytes": 2**40}}, {"a": {"bytes": -1}}, {"a": {}}, {"a": None}, [], None]
)
def test_a_manifest_that_makes_no_sense_is_refused(files: Any, tmp_path: Path) -> None:  # noqa: ANN401 - any JSON
    manifest = canonical({"schema": 1, "files": files}).encode()
    store = Store({"manifest.json": manifest})
    with pytest.raises(ArtifactError):
        ArtifactCache(tmp_path / "cache").store(
            hashlib.sha256(manifest).hexdigest(), "model", store
        )
    assert store.asked == ["manifest.json"]


def test_other_parts_have_copies_of_their_own(tmp_path: Path) -> None:
    digest, files = sealed(tmp_path / "made")
    cache = ArtifactCache(tmp_path / "cache")
    other = "b" * 64
    assert cache.store(other, "replay", Store(files)).name == f"{other}.replay"
    with pytest.raises(ArtifactError):
        cache.store(other, "../replay", Store(files))
    with pytest.raises(ArtifactError):
        cache.find("../x", "model")
    assert digest != other


@pytest.mark.parametrize("model", ["digits", "a/b", "..", ".", "ä b", "../../x"])
def test_the_digest_of_a_version_is_remembered_for_any_name(model: str, tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path / "cache")
    assert cache.digest_of(model, 1) is None
    cache.remember(model, 1, "a" * 64)
    cache.remember(model, 1, "a" * 64)
    assert cache.digest_of(model, 1) == "a" * 64
    assert cache.digest_of(model, 2) is None
    (note,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert note.parent.parent == tmp_path / "cache" / "names"
    note.write_text("nonsense")
    assert cache.digest_of(model, 1) is None


def test_json_to_store_takes_what_callers_send() -> None:
    for value in ({"a": [1, None, "ä"]}, 2**80, "\ud800", [1.5, True]):
        assert from_json(to_json(value)) == value
    assert json.loads(to_json(float("nan"))) is None
    assert canonical({"b": 1, "a": [1.0]}) == '{"a":[1.0],"b":1}'
    with pytest.raises(ValueError, match="JSON"):
        canonical(float("nan"))
    assert storable("plain") == "plain"
    assert storable("ä\0\ud800") == "ä\N{REPLACEMENT CHARACTER}?"
