"""A version in memory, by its format: who loads it, and who must have said so.

| format | files | loaded |
|---|---|---|
| `torch` | weights as safetensors, a learner by name | into this process: no code comes along |
| `pyfunc` | a folder of MLflow's, as bytes in safetensors | into one of its own: its code may run |
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType

from homeostat.errors import Refused
from models.artifact import WEIGHTS_FILE, LoadedModel, Stored, build_torch, read_version
from models.pyfunc import REFERENCE, Pyfunc
from models.stored import parse_tensors, refuse
from models.torch_learner import guarded
from registry.worker import Worker

Runtime = Callable[[str, Stored, Collection[str]], LoadedModel]


def open_version(
    folder: Path,
    name: str,
    *,
    allowed: Collection[str],
    formats: Collection[str] = ("torch",),
    digest: str | None = None,
) -> LoadedModel:
    """A version, verified and ready to answer.

    Args:
        folder: Its `model/`.
        name: For messages: `digits:3`.
        allowed: Learner references that may be imported.
        formats: What the policy lets in.
        digest: What was registered; None accepts any whole folder.

    Raises:
        SuspectArtifact: the folder is not what was registered.
        ArtifactError: it cannot be loaded here.
        Refused: the policy does not let its format in.
    """
    stored = read_version(folder, digest)
    runtime = RUNTIMES.get(stored.format)
    if runtime is None:
        raise refuse(f"{name} is of the format '{stored.format[:40]}', which nobody knows.")
    if stored.format not in formats:
        raise Refused(
            f"{name} is of the format '{stored.format}', which the model's policy does not let in.",
            remedy=f'Set formats = ["torch", "{stored.format}"] in its table of homeostat.toml.',
        )
    return runtime(name, stored, allowed)


def _torch(name: str, stored: Stored, allowed: Collection[str]) -> LoadedModel:  # noqa: ARG001 - the table's
    return build_torch(stored, allowed)


def _pyfunc(name: str, stored: Stored, allowed: Collection[str]) -> LoadedModel:  # noqa: ARG001 - the table's
    if stored.reference != REFERENCE:
        raise refuse(f"{name} is a pyfunc of the learner '{stored.reference[:80]}'.")
    learner = guarded(Pyfunc.from_config, stored.config)
    files = parse_tensors(stored.contents[WEIGHTS_FILE], WEIGHTS_FILE)
    return LoadedModel(learner, Worker(name, files).eval(), stored.digest, REFERENCE, stored.extra)


RUNTIMES: Mapping[str, Runtime] = MappingProxyType({"torch": _torch, "pyfunc": _pyfunc})
