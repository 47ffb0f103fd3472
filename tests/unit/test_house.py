from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
Named = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
TOLD_ELSEWHERE = ("override", "overload")
ROOMS = ("homeostat", "flows", "registry", "monitoring", "serving", "models")


@pytest.mark.parametrize("name", ROOMS)
def test_each_package_is_loaded_from_this_repository(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__file__ == str(ROOT / name / "__init__.py")


def test_no_other_distribution_claims_our_package_names() -> None:
    claims = metadata.packages_distributions()
    assert {name: set(claims.get(name, [])) - {"homeostat"} for name in ROOMS} == {
        name: set() for name in ROOMS
    }


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


def test_every_public_name_says_what_it_is() -> None:
    """Modules, classes, functions and methods of our rooms; not those of tests."""
    silent = [
        f"{path.relative_to(ROOT)}: {name}"
        for room in (*ROOMS, "alembic", "benchmarks")
        for path in sorted((ROOT / room).rglob("*.py"))
        for name in undocumented(ast.parse(path.read_text()), "module")
    ]
    assert silent == []


def undocumented(node: ast.Module | Named, name: str) -> Iterator[str]:
    if ast.get_docstring(node) is None:
        yield name
    for inner in node.body if isinstance(node, ast.Module | ast.ClassDef) else ():
        if isinstance(inner, Named) and not inner.name.startswith("_") and not given(inner):
            yield from undocumented(inner, inner.name)


def given(node: Named) -> bool:
    """Whether its meaning is told where it was first declared."""
    return any(ast.unparse(each) in TOLD_ELSEWHERE for each in node.decorator_list)
