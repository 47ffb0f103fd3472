"""A registered folder that was changed afterwards: cut, flipped, swapped; nobody loads it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from homeostat.errors import SuspectArtifact
from models import load_model, verify
from models.scan import scan

if TYPE_CHECKING:
    from tests.unit.hostile.conftest import Version

WEIGHTS, DESCRIPTION = "model.safetensors", "learner.json"
FILES = (WEIGHTS, DESCRIPTION, "manifest.json", "profile.json", "golden.json")
PLACES = 64


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", range(PLACES))
def test_a_file_cut_at_any_place_is_refused(version: Version, name: str, place: int) -> None:
    content = version.read(name)
    version.write(name, content[: len(content) * place // PLACES])
    version.refused_by_all_doors(version.digest)


def flip(content: bytes, place: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 1 << place % 8
    return bytes(changed)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", range(PLACES))
def test_one_bit_flipped_at_any_place_is_refused(version: Version, name: str, place: int) -> None:
    content = version.read(name)
    version.write(name, flip(content, len(content) * place // PLACES))
    version.refused_by_all_doors(version.digest)


@pytest.mark.parametrize("place", range(PLACES))
def test_one_bit_flipped_in_the_header_of_the_weights_is_refused(
    version: Version, place: int
) -> None:
    content = version.read(WEIGHTS)
    header = 8 + int.from_bytes(content[:8], "little")
    version.write(WEIGHTS, flip(content, header * place // PLACES))
    version.refused_by_all_doors(version.digest)


@pytest.mark.parametrize("name", [*FILES, "all"])
def test_the_files_of_another_version_are_refused_under_this_digest(
    version: Version, other: Version, name: str
) -> None:
    for each in FILES if name == "all" else (name,):
        shutil.copy(other.folder / each, version.folder / each)
    if name == DESCRIPTION:  # both versions have the same one: then nothing was changed
        assert verify(version.folder, version.digest) == version.digest
        return
    version.refused_by_all_doors(version.digest)


def test_a_whole_other_version_is_whole_under_its_own_digest(other: Version) -> None:
    """The cases above are refused for what was done to them, not for what they are."""
    assert load_model(other.folder, allowed={"digits"}, digest=other.digest).digest == other.digest
    assert str(scan(other.folder, other.digest)).endswith("json, safetensors: no code")


def test_a_suspect_is_not_fetched_again_at_every_look(version: Version) -> None:
    version.write(WEIGHTS, b"x")
    library = version.library()
    for _ in range(3):
        with pytest.raises(SuspectArtifact):
            library.load("digits", 1, version.digest)
    assert version.store.asked.count(WEIGHTS) == 1
