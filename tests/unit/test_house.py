from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("homeostat", "flows", "registry", "monitoring", "serving", "models")


@pytest.mark.parametrize("name", ROOMS)
def test_each_package_is_loaded_from_this_repository(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__file__ == str(ROOT / name / "__init__.py")


@pytest.mark.parametrize("name", ROOMS)
def test_no_other_distribution_claims_our_package_names(name: str) -> None:
    claims = set(metadata.packages_distributions().get(name, []))
    assert claims <= {"homeostat"}


def test_alembic_is_the_library_and_our_migrations_are_no_package() -> None:
    """With an __init__.py, `from alembic import op` would find our folder, MLflow's too."""
    import alembic

    assert not (ROOT / "alembic" / "__init__.py").exists()
    assert ROOT not in Path(str(alembic.__file__)).parents or ".venv" in str(alembic.__file__)


def test_every_folder_with_code_is_a_listed_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(settings["tool"]["setuptools"]["packages"])
    found = {
        str(init.parent.relative_to(ROOT)).replace("/", ".")
        for room in ROOMS
        for init in (ROOT / room).rglob("__init__.py")
    }
    assert found == listed


def test_imports_go_down_only() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([str(linter)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
