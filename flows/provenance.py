"""Which code and which environment make a version: what another machine has to have alike."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import torch

from models.catalog import find_learner
from registry.lineage_record import CodeFacts, EnvironmentFacts

ROOMS = ("flows", "models", "monitoring")  # whose code decides the bytes of an artifact
LIBRARIES = (
    "homeostat",
    "numpy",
    "pandas",
    "pyarrow",
    "safetensors",
    "scikit-learn",
    "scipy",
    "torch",
)
GIT_SECONDS = 10.0


def code_facts(reference: str) -> CodeFacts:
    """The code that trains with the learner of that reference.

    Raises:
        SettingsError: there is no such learner.
    """
    module = find_learner(reference).__module__
    revision = _revision(module)
    return CodeFacts(
        package=_version("homeostat"),
        revision=revision.removesuffix("-dirty") or None,
        modified=revision.endswith("-dirty"),
        source=_source_digest({*ROOMS, module.partition(".")[0]}),
    )


def environment_facts(reference: str) -> EnvironmentFacts:
    """What this process computes on, with the versions of what decides numbers.

    Raises:
        SettingsError: there is no such learner.
    """
    package = find_learner(reference).__module__.partition(".")[0]
    # Asked only for somebody else's learner: reading what every distribution holds takes a second.
    others = metadata.packages_distributions().get(package, ()) if package not in ROOMS else ()
    return EnvironmentFacts(
        python=platform.python_version(),
        platform=" ".join((platform.system(), platform.machine(), *platform.libc_ver())).strip(),
        vector=torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        packages={name: _version(name) for name in sorted({*LIBRARIES, *others})},
        digest=_installed_digest(),
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # run from a checkout that was never installed
        return ""


def _installed_digest() -> str:
    """Of every installed distribution's name and version."""
    found = {
        f"{each.metadata['Name'].lower()}=={each.version}\n"
        for each in metadata.distributions()
        if each.metadata["Name"]
    }
    return hashlib.sha256("".join(sorted(found)).encode()).hexdigest()


def _source_digest(packages: set[str]) -> str:
    """Of the paths and contents of all Python files of these top-level packages."""
    content = hashlib.sha256()
    for package in sorted(packages):
        for name, path in _sources(package):
            content.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return content.hexdigest()


def _sources(package: str) -> Iterator[tuple[str, Path]]:
    spec = importlib.util.find_spec(package) if package != "__main__" else None
    if spec is None:
        return
    for folder in sorted(spec.submodule_search_locations or ()):
        for path in sorted(Path(folder).rglob("*.py")):
            yield f"{package}/{path.relative_to(folder).as_posix()}", path
    if not spec.submodule_search_locations and spec.origin and Path(spec.origin).is_file():
        yield package, Path(spec.origin)


def _revision(module: str) -> str:
    """The git commit that the module's file is tracked in, `-dirty` when it has changes."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or not _git(Path(file).parent, "ls-files", "--", Path(file).name):
        return ""
    words = ("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")
    return _git(Path(file).parent, *words)


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=False,
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):  # no git here, or none that answers
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
