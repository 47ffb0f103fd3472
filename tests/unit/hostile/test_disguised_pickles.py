"""Pickles in disguise, each of which would leave the canary behind: refused and never run."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from homeostat.errors import ArtifactError
from models import Digits
from models.scan import scan

if TYPE_CHECKING:
    from tests.unit.hostile.conftest import Version

DESCRIPTION, MANIFEST = "learner.json", "manifest.json"
FILES = ("model.safetensors", DESCRIPTION, "profile.json", "golden.json", MANIFEST)
CONFIG = Digits(channels=2, hidden=8).config()  # of the version
TENSORS = {
    "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    "b": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]},
}


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


def weights(header: object) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(16)


def behind_a_header(canary: Path) -> bytes:
    """The weights of a good file whose tail is a pickle."""
    one = {"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}
    return weights(one) + pickle.dumps(Trap(canary))


def in_a_header(canary: Path) -> bytes:
    text = base64.b64encode(pickle.dumps(Trap(canary))).decode()
    return weights({"__metadata__": {"loader": text}, **TENSORS})


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


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", DISGUISES)
def test_a_pickle_in_disguise_is_refused_and_never_run(
    version: Version, canary: Path, file: str, name: str
) -> None:
    version.write(file, DISGUISES[name](canary))
    digest = hashlib.sha256(version.read(file)).hexdigest() if file == MANIFEST else version.seal()
    version.kept_out(digest)
    with pytest.raises(ArtifactError):
        scan(version.folder)


@pytest.mark.parametrize("where", ["config", "a value of it", "the learner"])
def test_a_pickle_as_text_in_the_description_stays_text(
    version: Version, canary: Path, where: str
) -> None:
    import cloudpickle  # type: ignore[import-untyped]  # it ships no types

    text = base64.b64encode(cloudpickle.dumps(Trap(canary))).decode()
    places: dict[str, dict[str, Any]] = {
        "config": {"config": {"cloudpickle": text}},
        "a value of it": {"config": CONFIG | {"hidden": text}},
        "the learner": {"learner": text},
    }
    whole = {"schema": 1, "learner": "digits", "config": CONFIG} | places[where]
    version.write(DESCRIPTION, json.dumps(whole).encode())
    version.refused_by_all_doors(version.seal())


def test_the_canary_sings_when_a_pickle_is_run(canary: Path, tmp_path: Path) -> None:
    """Else the tests above would prove nothing."""
    mine = tmp_path / "mine"
    pickle.loads(DISGUISES["plain"](mine))  # noqa: S301 - our own
    assert mine.exists()
    assert not canary.exists()
