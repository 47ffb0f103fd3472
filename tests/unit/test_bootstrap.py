from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from homeostat import bootstrap


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "constraints.txt").write_text("torch==2.13.0\n")
    return tmp_path


@pytest.fixture
def venv(root: Path) -> Path:
    venv = root / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").write_text("")
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.12.1\n")
    (venv / "homeostat.stamp").write_text(bootstrap.stamp_of(root, venv))
    return venv


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_takes_the_tested_versions_of_python(version: tuple[int, int]) -> None:
    assert bootstrap.fits(version)


@pytest.mark.parametrize("version", [(2, 7), (3, 10), (3, 14), (4, 0)])
def test_refuses_other_versions_of_python(version: tuple[int, int]) -> None:
    assert not bootstrap.fits(version)


def test_an_environment_made_from_these_files_is_left_alone(root: Path, venv: Path) -> None:
    assert not bootstrap.set_up(root, venv)


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_file_makes_the_environment_stale(root: Path, venv: Path, name: str) -> None:
    (root / name).write_text("changed\n")
    assert not bootstrap.is_current(root, venv)


def test_another_python_in_the_environment_makes_it_stale(root: Path, venv: Path) -> None:
    (venv / "pyvenv.cfg").write_text("version = 3.13.0\n")
    assert not bootstrap.is_current(root, venv)


def test_an_environment_whose_python_is_gone_is_stale(root: Path, venv: Path) -> None:
    (venv / "bin" / "python").unlink()
    assert not bootstrap.is_current(root, venv)


def test_a_wish_for_another_torch_makes_it_stale(
    root: Path, venv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_INDEX", "https://example.org/cpu")
    assert not bootstrap.is_current(root, venv)


def test_torch_comes_first_from_an_index_of_its_own(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_INDEX", "https://example.org/cpu")
    first, second = bootstrap.pip_commands(root, root / ".venv")
    assert first[-4:] == ["--no-deps", "--index-url", "https://example.org/cpu", "torch"]
    assert "--index-url" not in second


def test_without_that_index_everything_comes_from_the_usual_one(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCH_INDEX", raising=False)
    (command,) = bootstrap.pip_commands(root, root / ".venv")
    assert command[-2:] == ["-e", f"{root}[dev]"]
    assert ["-c", str(root / "constraints.txt")] == command[command.index("-c") :][:2]


def test_an_old_python_is_told_which_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(bootstrap.SetupError, match=r"3\.9.*apt install python3\.12"):
        bootstrap.find_python()


def test_an_old_python_finds_a_fitting_one_on_the_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "python3.12"
    fake.write_text("#!/bin/sh\necho 3 12\n")
    fake.chmod(0o755)
    dead = tmp_path / "python3.13"  # as a version manager leaves them
    dead.write_text("#!/bin/sh\nexit 127\n")
    dead.chmod(0o755)
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bootstrap.find_python() == str(fake)


def test_too_little_disk_is_said_before_anything_is_fetched(root: Path) -> None:
    with pytest.raises(bootstrap.SetupError, match="GB free: free some space"):
        bootstrap.check_disk(root, needed=shutil.disk_usage(root).total * 2)


def test_a_missing_venv_module_is_named_with_its_package(tmp_path: Path) -> None:
    fake = tmp_path / "python3"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(bootstrap.SetupError, match="apt install python3-venv"):
        bootstrap.make_venv(str(fake), tmp_path / ".venv")


def test_a_failing_pip_gives_its_error_and_the_log(tmp_path: Path) -> None:
    log = tmp_path / "setup.log"
    failing = "print('Collecting x'); print('ERROR: no wheel for x'); print('hint'); exit(1)"
    with pytest.raises(bootstrap.SetupError, match=r"ERROR: no wheel for x.*setup\.log"):
        bootstrap.run_pip([sys.executable, "-c", failing], log)


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("error: command 'gcc' failed: No such file or directory", "apt install build-essential"),
        ("error: [Errno 2] No such file or directory: 'gcc'", "apt install build-essential"),
        ("error: command '/usr/bin/x86_64-linux-gnu-gcc' failed: No such file", "build-essential"),
        ("OSError: [Errno 28] No space left on device", "free some space"),
        ("WARNING: Retrying after NewConnectionError('[Errno 101]')", "index cannot be reached"),
    ],
)
def test_a_pip_that_fails_for_a_known_cause_says_what_to_do_in_one_line(
    tmp_path: Path, said: str, remedy: str
) -> None:
    log = tmp_path / "setup.log"
    failing = f"print({said!r}); print('ERROR: Failed building wheel for x'); exit(1)"
    with pytest.raises(bootstrap.SetupError) as caught:
        bootstrap.run_pip([sys.executable, "-c", failing], log)
    assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_cause_of_an_earlier_try_is_not_that_of_this_one(tmp_path: Path) -> None:
    log = tmp_path / "setup.log"
    log.write_text("No space left on device\n")
    with pytest.raises(bootstrap.SetupError, match="no wheel for x"):
        bootstrap.run_pip([sys.executable, "-c", "print('ERROR: no wheel for x'); exit(1)"], log)


def test_its_code_is_read_by_the_oldest_python_that_a_machine_may_have() -> None:
    """A syntax error would hide the line that says which Python to install."""
    ast.parse(Path(bootstrap.__file__).read_text(), feature_version=(3, 7))


def test_a_current_environment_is_seen_without_the_network_or_a_subprocess(
    root: Path, venv: Path
) -> None:
    done = subprocess.run(
        [sys.executable, bootstrap.__file__, "--root", str(root), "--venv", str(venv)],
        capture_output=True,
        text=True,
        check=True,
        env={},
    )
    assert done.stdout == ""
