"""A version that somebody else logged: fetched, and told what it is before anything is loaded.

What kind of model it is stands in its `MLmodel` file, which is YAML and is read as data.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from homeostat.errors import ArtifactError, DataError, InputError, Unavailable, UnknownVersion
from models.stored import read_bounded

MAX_DESCRIPTION = 1024 * 1024
DESCRIPTION = "MLmodel"
# Loaders of formats that hold numbers and no code; every other one may run what its maker wrote.
CODELESS = frozenset({"mlflow.onnx", "mlflow.xgboost", "mlflow.lightgbm", "mlflow.catboost"})
KIND_OF = MappingProxyType(
    {
        "boolean": "bool",
        "integer": "int32",
        "long": "int64",
        "float": "float32",
        "double": "float64",
        "string": "str",
    }
)
_ADDRESS = re.compile(r"models:/([^/@]{1,256})/([1-9][0-9]{0,8})")


@dataclass(frozen=True)
class Foreign:
    """What an `MLmodel` file says.

    Args:
        loader: The module that loads it: `mlflow.sklearn`.
        serialization: How it is written: `cloudpickle`, `skops`, ...; empty where it is not said.
        runs_code: Whether to load it may run code of whoever wrote it.
        kinds: Column to kind, by its signature; empty where it has none, or takes an array.
        tensor: The dtype of the array that it takes; empty: it takes a table.
        facts: Plain JSON worth keeping: where it comes from, with which MLflow it was logged.
    """

    loader: str
    serialization: str
    runs_code: bool
    kinds: dict[str, str]
    tensor: str
    facts: dict[str, str]

    def __str__(self) -> str:
        """In words."""
        written = f", written by {self.serialization}" if self.serialization else ""
        return f"{self.loader}{written}"


def parse_address(address: str) -> tuple[str, int]:
    """The name and number in `models:/NAME/3`.

    Raises:
        InputError: it is none.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise InputError(
            f"'{address}' is not the address of a version.",
            remedy="Write it as models:/NAME/3: a registered model of MLflow and a number.",
        )
    return found[1], int(found[2])


def download(url: str, name: str, version: int, folder: Path) -> Path:
    """The whole folder of a version, as MLflow keeps it; nothing of it is loaded.

    Raises:
        UnknownVersion: MLflow has no such version.
        Unavailable: MLflow is away, or its artifact store is.
    """
    import mlflow  # two seconds, which only this command pays
    from mlflow.exceptions import MlflowException

    before = mlflow.get_tracking_uri()
    try:
        # The address of a logged model (models:/m-...) is looked up by this, whatever is passed.
        mlflow.set_tracking_uri(url)
        client = mlflow.MlflowClient(tracking_uri=url, registry_uri=url)
        source = client.get_model_version(name, str(version)).source
        found = mlflow.artifacts.download_artifacts(
            artifact_uri=source, dst_path=str(folder), tracking_uri=url
        )
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise UnknownVersion(
                f"MLflow has no version {version} of '{name}'.",
                remedy="See its page for the versions that there are.",
            ) from error
        raise Unavailable(
            f"MLflow did not give the files of {name}:{version}: {error.message}",
            remedy="See that it runs and that its artifacts are where it kept them.",
        ) from error
    except OSError as error:
        raise Unavailable(
            f"The files of {name}:{version} cannot be fetched: {error}.",
            remedy="See that MLflow runs and that this disk has room.",
        ) from error
    finally:
        mlflow.set_tracking_uri(before)
    return Path(found)


def describe(folder: Path) -> Foreign:
    """Read the `MLmodel` file of a folder.

    Raises:
        ArtifactError: there is none, or it describes no model that pyfunc loads.
        DataError: the model takes columns of a kind that a JSON row cannot carry.
    """
    content = read_bounded(folder / DESCRIPTION, MAX_DESCRIPTION)
    try:
        about = yaml.safe_load(content)
        flavors = about["flavors"]
        pyfunc = flavors["python_function"]
        loader = str(pyfunc["loader_module"])
        native = flavors.get(loader.removeprefix("mlflow."), {})
        written = str(
            native.get("serialization_format") or pyfunc.get("serialization_format") or ""
        )
        inputs = json.loads((about.get("signature") or {}).get("inputs") or "null")
    except (
        yaml.YAMLError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
    ) as error:
        raise ArtifactError(
            f"{DESCRIPTION} describes no model that MLflow's pyfunc loads: {error}.",
            remedy="Log the model again with a pyfunc flavour: mlflow.FLAVOUR.log_model.",
        ) from error
    kinds, tensor = _inputs(inputs)
    facts = {
        "loader": loader,
        "serialization": written,
        **{
            name: str(about[name])
            for name in ("mlflow_version", "model_uuid", "model_id", "run_id", "utc_time_created")
            if about.get(name)
        },
    }
    runs_code = loader not in CODELESS or bool(pyfunc.get("code"))
    return Foreign(loader, written, runs_code, kinds, tensor, facts)


def _inputs(inputs: Any) -> tuple[dict[str, str], str]:  # noqa: ANN401 - any JSON
    if not inputs:
        return {}, ""
    if not isinstance(inputs, list) or not all(isinstance(one, dict) for one in inputs):
        raise ArtifactError("The model's signature is no list of inputs.", remedy="Log it again.")
    if inputs[0].get("type") == "tensor":
        spec = inputs[0].get("tensor-spec") or {}
        shape = spec.get("shape") or []
        if len(inputs) > 1 or len(shape) != 2:
            raise DataError(
                f"The model takes {len(inputs)} arrays of {len(shape)} dimensions; rows make one"
                " of two.",
                remedy="Log it behind a pyfunc that takes a table.",
            )
        return {}, str(spec.get("dtype"))
    kinds = {}
    for one in inputs:
        kind = KIND_OF.get(str(one.get("type")))
        if kind is None or "name" not in one:
            raise DataError(
                f"The model's column {one.get('name')!r} is of the type {one.get('type')!r}, which"
                " a JSON row cannot carry.",
                remedy=f"Log it behind a pyfunc of columns of these types: {', '.join(KIND_OF)}.",
            )
        kinds[str(one["name"])] = kind
    return kinds, ""
