"""The wheel, built for real: what it carries beside the code is found where it is put."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import alembic
import pytest
from sqlalchemy import inspect

from homeostat.shipped import shipped
from monitoring.runbooks import RUNBOOKS
from registry import check_schema, connect, upgrade

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("homeostat", "flows", "registry", "monitoring", "serving", "models", "alembic", "docs")
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of a copy of the repository, as an archive unpacks it."""
    folder = tmp_path_factory.mktemp("wheel")
    source, made = folder / "source", folder / "made"
    for part in PARTS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, source / part, ignore=ignored)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    made.mkdir()
    subprocess.run(
        [sys.executable, "-c", BUILD, str(made)],
        cwd=source,
        check=True,
        capture_output=True,
        timeout=120,
    )
    with zipfile.ZipFile(next(made.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_a_wheel_has_the_files_that_the_code_opens(unpacked: Path) -> None:
    opened = ("templates", "static", "py.typed")
    wanted = {
        str(path.relative_to(ROOT))
        for part in PARTS[:6]
        for path in (ROOT / part).rglob("*")
        if path.is_file() and (path.parent.name in opened or path.name in opened)
    }
    assert len(wanted) > 15
    assert {name for name in wanted if not (unpacked / name).is_file()} == set()


def test_a_wheel_brings_a_new_database_to_the_newest_migration(
    unpacked: Path, tmp_path: Path
) -> None:
    migrations = found_in(unpacked, "alembic", "env.py", tmp_path)
    assert unpacked in migrations.parents
    engine = connect(f"sqlite:///{tmp_path / 'lifecycle.db'}")
    upgrade(str(engine.url), migrations=migrations)
    check_schema(engine)
    assert "releases" in inspect(engine).get_table_names()
    engine.dispose()


def test_a_wheel_has_every_runbook(unpacked: Path, tmp_path: Path) -> None:
    folder = found_in(unpacked, "docs/runbooks", "loss.md", tmp_path)
    assert unpacked in folder.parents
    assert {path.stem for path in folder.glob("*.md")} >= RUNBOOKS


def test_the_library_alembic_is_not_taken_for_our_migrations(unpacked: Path) -> None:
    beside = Path(str(alembic.__file__)).parents[1]  # where a wheel's packages lie, too
    assert (beside / "alembic").is_dir()
    assert shipped("alembic", "env.py", beside, _share(unpacked)) == _share(unpacked) / "alembic"


def test_a_checkout_goes_before_what_a_wheel_installed(unpacked: Path, tmp_path: Path) -> None:
    assert shipped("alembic", "env.py", installed=_share(unpacked)) == ROOT / "alembic"
    assert shipped("alembic", "env.py", tmp_path, tmp_path) == tmp_path / "alembic"


def found_in(unpacked: Path, name: str, file: str, nowhere: Path) -> Path:
    """Where a folder is found when there is no checkout."""
    return shipped(name, file, nowhere / "no-checkout", _share(unpacked))


def _share(unpacked: Path) -> Path:
    return next(unpacked.glob("*.data")) / "data" / "share" / "homeostat"
