"""A version's folder is rebuilt bit for bit, or refused: whatever was done to it."""

from __future__ import annotations

import json
import os
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from homeostat.errors import ArtifactError, LearnerError, SettingsError
from models import Digits, Table, load_model, save_model, verify, write_manifest

LEARNER = Digits(channels=2, hidden=8)
ALLOWED = {"digits"}


def build(seed: int = 0) -> nn.Module:
    return LEARNER.build(torch.Generator().manual_seed(seed))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    save_model(path, "digits", LEARNER, build(), {"profile.json": b"{}"})
    return path


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    model = build()
    digest = save_model(tmp_path / "m", "digits", LEARNER, model, {"profile.json": b"{}"})
    loaded = load_model(tmp_path / "m", allowed=ALLOWED, digest=digest)
    assert (loaded.learner, loaded.digest, loaded.reference) == (LEARNER, digest, "digits")
    assert not loaded.model.training
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, loaded.model.state_dict()[name])


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    one = save_model(tmp_path / "a", "digits", LEARNER, build(), {"profile.json": b"{}"})
    again = save_model(tmp_path / "a", "digits", LEARNER, build(), {"profile.json": b"{}"})
    other = save_model(tmp_path / "b", "digits", LEARNER, build(1), {"profile.json": b"{}"})
    more = save_model(tmp_path / "c", "digits", LEARNER, build(), {"profile.json": b"[]"})
    assert one == again
    assert len({one, other, more}) == 3
    assert verify(tmp_path / "a") == verify(tmp_path / "a", one) == one


def test_a_table_with_text_in_it_comes_back(tmp_path: Path) -> None:
    rows = [{"größe": 1, "ort": "Köln"}, {"größe": None, "ort": "Ulm"}]
    learner = Table.from_data(rows, ["ja", "nein"], {})
    save_model(tmp_path / "m", "table", learner, learner.build(torch.Generator()))
    assert load_model(tmp_path / "m", allowed={"table"}, digest=None).learner == learner


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def grow(folder: Path) -> None:
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"\0")


def swap_two(folder: Path) -> None:
    one, other = folder / "learner.json", folder / "profile.json"
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def add_a_file(folder: Path) -> None:
    (folder / "sitecustomize.py").write_text("print('hello')")


def add_a_folder(folder: Path) -> None:
    (folder / "more").mkdir()


def remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def remove_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def link_the_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.rename(folder.parent / "elsewhere")
    path.symlink_to(folder.parent / "elsewhere")


def link_the_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    path.rename(folder.parent / "elsewhere")
    path.symlink_to(folder.parent / "elsewhere")


def pipe_for_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


def huge_manifest(folder: Path) -> None:
    with (folder / "manifest.json").open("r+b") as file:
        file.truncate(2**40)  # sparse: a terabyte on no disk


def spaced_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text())))


def escape(folder: Path) -> None:
    (folder.parent / "outside").write_bytes(b"x")
    edit_manifest(folder, lambda files: files.update({"../outside": files["profile.json"]}))


def wrong_size(folder: Path) -> None:
    edit_manifest(folder, lambda files: files["profile.json"].update(bytes=-1))


def size_of_another_kind(folder: Path) -> None:
    edit_manifest(folder, lambda files: files["profile.json"].update(bytes=True))


def nested_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[" * 100_000)


def edit_manifest(folder: Path, change: Callable[[dict[str, dict[str, object]]], None]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest["files"])
    path.write_text(json.dumps(manifest, sort_keys=True, separators=(",", ":")))


@pytest.mark.parametrize(
    "attack",
    [
        truncate,
        flip_a_bit,
        grow,
        swap_two,
        add_a_file,
        add_a_folder,
        remove_weights,
        remove_manifest,
        link_the_weights,
        link_the_manifest,
        pipe_for_weights,
        huge_manifest,
        spaced_manifest,
        escape,
        wrong_size,
        size_of_another_kind,
        nested_manifest,
    ],
)
def test_a_folder_that_was_changed_is_refused_even_without_its_digest(
    folder: Path, attack: Callable[[Path], None]
) -> None:
    attack(folder)
    with pytest.raises(ArtifactError) as caught:
        verify(folder)
    assert caught.value.remedy
    with pytest.raises(ArtifactError):
        load_model(folder, allowed=ALLOWED, digest=None)


def test_a_whole_folder_in_place_of_another_is_refused_by_its_digest(tmp_path: Path) -> None:
    digest = save_model(tmp_path / "a", "digits", LEARNER, build())
    other = save_model(tmp_path / "b", "digits", LEARNER, build(1))
    with pytest.raises(ArtifactError, match=f"{other}, but {digest} was registered"):
        load_model(tmp_path / "b", allowed=ALLOWED, digest=digest)


def test_what_is_too_large_is_refused_before_it_is_read(folder: Path) -> None:
    with pytest.raises(ArtifactError, match="at most 100 are read"):
        verify(folder, max_bytes=100)


def test_a_large_file_is_sealed_and_checked_without_being_held(tmp_path: Path) -> None:
    """64 MiB, sparse on disk: neither the seal nor the check takes a tenth of that."""
    with (tmp_path / "memory.safetensors").open("wb") as file:
        file.truncate(1 << 26)
    tracemalloc.start()
    try:
        assert verify(tmp_path, write_manifest(tmp_path)) == verify(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no folder that can be read"):
        verify(tmp_path / "none")


def test_a_pickle_in_disguise_is_refused_and_never_run(folder: Path, tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return Path.touch, (tmp_path / "ran",)

    for content in (pickle.dumps(Attack()), b"PK\x03\x04" + pickle.dumps(Attack())):
        (folder / "model.safetensors").write_bytes(content)
        write_manifest(folder)  # sealed by an enemy who knows how
        with pytest.raises(ArtifactError, match="not a safetensors file"):
            load_model(folder, allowed=ALLOWED, digest=None)
    assert not (tmp_path / "ran").exists()


def test_a_learner_that_is_not_allowed_is_not_even_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trap_learner.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    save_model(tmp_path / "m", "trap_learner:Trap", LEARNER, build())
    for allowed in (set[str](), ALLOWED, {"trap_learner"}):
        with pytest.raises(ArtifactError, match="not allowed here"):
            load_model(tmp_path / "m", allowed=allowed, digest=None)


def test_an_allowed_learner_that_is_not_installed_is_a_matter_of_settings(tmp_path: Path) -> None:
    save_model(tmp_path / "m", "no_such_module_here:Learner", LEARNER, build())
    with pytest.raises(SettingsError, match="cannot be imported"):
        load_model(tmp_path / "m", allowed={"no_such_module_here:Learner"}, digest=None)


def test_weights_of_another_shape_name_or_type_are_refused(tmp_path: Path) -> None:
    wide = Digits(channels=3, hidden=8)
    save_model(tmp_path / "shape", "digits", LEARNER, wide.build(torch.Generator()))
    save_model(tmp_path / "type", "digits", LEARNER, build().double())
    save_model(tmp_path / "name", "digits", LEARNER, nn.Sequential(build()))
    for name in ("shape", "type", "name"):
        with pytest.raises(ArtifactError, match="weight"):
            load_model(tmp_path / name, allowed=ALLOWED, digest=None)


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"schema":2,"learner":"digits","config":{}}',
        b'{"schema":1,"learner":["digits"],"config":{}}',
        b'{"schema":1,"learner":"digits","config":[]}',
        b'{"schema":1,"learner":"digits","config":{"hidden":NaN}}',
        b'{"schema":1,"learner":"digits","config":{"hidden":1e9}}',
        b'{"schema":1,"learner":"digits","config":{},"more":1}',
    ],
)
def test_a_description_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    (folder / "learner.json").write_bytes(content)
    write_manifest(folder)
    with pytest.raises(ArtifactError):
        load_model(folder, allowed=ALLOWED, digest=None)


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "learner.json", "manifest.json"])
def test_an_extra_file_has_a_plain_name_of_its_own(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtifactError, match="cannot be the name"):
        save_model(tmp_path / "m", "digits", LEARNER, build(), {name: b""})


def test_a_folder_with_other_files_is_not_saved_into(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"holds notes\.txt"):
        save_model(tmp_path, "digits", LEARNER, build())
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_tensors_that_share_memory_can_be_saved(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(3, 3)
            self.two = self.one

    assert save_model(tmp_path / "m", "digits", LEARNER, Tied()) == verify(tmp_path / "m")


def test_a_learners_own_failure_on_its_configuration_is_typed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> Digits:
        raise KeyError("classes")

    monkeypatch.setattr(Digits, "from_config", broken)
    with pytest.raises(LearnerError, match="KeyError"):
        load_model(folder, allowed=ALLOWED, digest=None)
