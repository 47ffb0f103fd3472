"""Somebody else's folder: told what it is from bounded YAML, packed and unpacked without escape."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flows.adoption import refuse_unless_allowed
from homeostat.errors import ArtifactError, DataError, InputError, Refused, SuspectArtifact
from homeostat.policy import Policy
from registry.foreign import describe, parse_address
from registry.packed import pack, unpack

SKLEARN = """
flavors:
  python_function: {loader_module: mlflow.sklearn, model_path: model.pkl}
  sklearn: {pickled_model: model.pkl, serialization_format: cloudpickle}
signature:
  inputs: '[{"type": "double", "name": "a"}, {"type": "long", "name": "n"}]'
mlflow_version: 3.17.2
"""


def written(folder: Path, text: str) -> Path:
    (folder / "MLmodel").write_text(text)
    return folder


def test_what_it_is_is_told_without_loading_it(tmp_path: Path) -> None:
    found = describe(written(tmp_path, SKLEARN))
    assert (str(found), found.runs_code) == ("mlflow.sklearn, written by cloudpickle", True)
    assert found.kinds == {"a": "float64", "n": "int64"}
    assert found.facts["mlflow_version"] == "3.17.2"


@pytest.mark.parametrize("loader", ["mlflow.onnx", "mlflow.xgboost"])
def test_a_format_of_numbers_alone_runs_no_code_unless_code_comes_with_it(
    tmp_path: Path, loader: str
) -> None:
    text = f"flavors:\n  python_function: {{loader_module: {loader}}}\n"
    assert not describe(written(tmp_path, text)).runs_code
    assert describe(written(tmp_path, text.replace("}", ", code: code}"))).runs_code


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "flavors: {}",
        "flavors: {python_function: {}}",
        "flavors: [python_function]",
        "flavors: {sklearn: {pickled_model: model.pkl}}",
        "!!python/object/apply:os.system ['true']",
        "flavors: !!python/object/new:os.system {}",
        "a: &a [*a]",
        "{" * 5000,
        "\x00",
        SKLEARN.replace("double", "binary"),
        SKLEARN.replace("'[{", "'[[{"),
        "x" * (1024 * 1024 + 1),
    ],
    ids=lambda text: text[:30] + str(len(text)),
)
def test_a_description_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises((ArtifactError, DataError)):
        describe(written(tmp_path, text))


def test_a_link_for_a_description_is_refused(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").symlink_to("/etc/passwd")
    with pytest.raises(SuspectArtifact):
        describe(tmp_path)


@pytest.mark.parametrize(
    "address", ["", "iris", "models:/iris", "models:/iris@champion", "runs:/x"]
)
def test_an_address_names_a_version(address: str) -> None:
    assert parse_address("models:/iris/3") == ("iris", 3)
    with pytest.raises(InputError, match="models:/NAME/3"):
        parse_address(address)


def test_code_is_allowed_by_two_or_not_at_all(tmp_path: Path) -> None:
    foreign = describe(written(tmp_path, SKLEARN))
    both = Policy(formats=("torch", "pyfunc"))
    refuse_unless_allowed("models:/iris/3", "iris", foreign, both, True)
    for policy, allow in ((both, False), (Policy(), True), (Policy(), False)):
        with pytest.raises(Refused, match="can run any code"):
            refuse_unless_allowed("models:/iris/3", "iris", foreign, policy, allow)


def test_a_folder_is_packed_and_unpacked_as_it_is(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "code" / "deep").mkdir(parents=True)
    (source / "MLmodel").write_text("x")
    (source / "code" / "deep" / "__init__.py").write_bytes(b"")
    unpack(pack(source, 100), tmp_path / "out")
    made = tmp_path / "out" / "model"
    assert (made / "MLmodel").read_text() == "x"
    assert (made / "code" / "deep" / "__init__.py").read_bytes() == b""


def test_links_and_more_than_allowed_are_not_packed(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(101))
    with pytest.raises(SuspectArtifact, match="at most 100"):
        pack(tmp_path, 100)
    (tmp_path / "big").unlink()
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(SuspectArtifact):
        pack(tmp_path, 100)


@pytest.mark.parametrize(
    "path",
    [
        *["../evil", "/etc/evil", "a/../../evil", "a//b", "", ".", "a/.", ".ssh/x", "a\\..\\b"],
        *["a\0b", "a\nb", "\u2024\u2024/x", "x" * 200, "/".join("a" * 17), "MLmodel/x", "~/x"],
    ],
)
def test_a_path_that_leads_elsewhere_is_not_unpacked(tmp_path: Path, path: str) -> None:
    content = torch.zeros(1, dtype=torch.uint8)
    with pytest.raises(SuspectArtifact):
        unpack({"MLmodel": content, path: content}, tmp_path / "out")
    assert not (tmp_path / "evil").exists()


def test_what_is_no_bytes_is_not_unpacked(tmp_path: Path) -> None:
    with pytest.raises(SuspectArtifact):
        unpack({"MLmodel": torch.zeros(1)}, tmp_path / "out")
