"""Set-up behind `make`: our own virtual environment with the pinned set, made once.

Knows the standard library only, and is read by whatever `python3` the machine has, so its code
is kept to what Python 3.7 takes (the newer words stand in annotations, never evaluated). A
stamp remembers what was installed: a second run compares it, installs nothing and needs no
network.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
NEWEST = (3, 13)
NEEDED_BYTES = 6 * 1024**3
TORCH_INDEX = "TORCH_INDEX"
# What pip says somewhere in its output, and what it comes down to. Its last line names neither.
CAUSES = (
    (
        r"(?:command|No such file or directory:) '\S*(?:cc|[+]{2}|clang)\S*'|[Uu]nknown compiler",
        "a package has to be built and there is no C compiler: install one (Debian, Ubuntu: "
        "apt install build-essential) and run make again",
    ),
    (
        r"No space left on device",
        "the disk is full: free some space, also in the folder for temporary files, and run make "
        "again",
    ),
    (
        r"NewConnectionError|NameResolutionError|Temporary failure in name resolution",
        "the package index cannot be reached: connect, or set pip's index, and run make again",
    ),
)


class SetupError(Exception):
    """What is missing, with the remedy, in one line."""


def fits(version: tuple[int, int]) -> bool:
    """Whether this version of Python is one that we are tested with."""
    return OLDEST <= version <= NEWEST


def find_python() -> str:
    """The running Python where it fits, else the newest fitting one on the PATH.

    Raises:
        SetupError: there is none.
    """
    if fits((sys.version_info[0], sys.version_info[1])):
        return sys.executable
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found and version_of(found) == (3, minor):
            return found
    running = f"{sys.version_info[0]}.{sys.version_info[1]}"
    raise SetupError(
        f"Homeostat needs Python 3.11, 3.12 or 3.13, and python3 here is {running}: install one "
        "(Debian, Ubuntu: apt install python3.12 python3.12-venv) and run make again."
    )


def version_of(python: str) -> tuple[int, int] | None:
    """The version that an interpreter reports; None where it does not run (a dead shim)."""
    asked = "import sys; print('%d %d' % sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True)
        major, minor = done.stdout.split()
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None
    return int(major), int(minor)


def stamp_of(root: Path, venv: Path) -> str:
    """What the environment must have been made from: digest of the two files, Python, place."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((root / name).read_bytes())
    digest.update(os.environ.get(TORCH_INDEX, "").encode())
    return f"{digest.hexdigest()} python {venv_version(venv)} at {root}\n"


def venv_version(venv: Path) -> str:
    """The Python version that the environment was made with; empty where there is none."""
    try:
        lines = (venv / "pyvenv.cfg").read_text().splitlines()
    except OSError:
        return ""
    pairs: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition("=")
        pairs[name.strip()] = value.strip()
    return pairs.get("version", pairs.get("version_info", ""))


def is_current(root: Path, venv: Path) -> bool:
    """Whether the environment is there, runs, and was made from these very files."""
    stamp = venv / "homeostat.stamp"
    return (
        (venv / "bin" / "python").exists()
        and stamp.is_file()
        and stamp.read_text() == stamp_of(root, venv)
    )


def check_disk(root: Path, needed: int = NEEDED_BYTES) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        SetupError: less than `needed` bytes are free.
    """
    free = shutil.disk_usage(root).free
    if free < needed:
        raise SetupError(
            f"Set-up needs {needed / 1024**3:.0f} GB of disk and {root} has "
            f"{free / 1024**3:.1f} GB free: free some space and run make again."
        )


def make_venv(python: str, venv: Path) -> None:
    """Make the environment where it is missing or broken.

    Raises:
        SetupError: this Python has no venv module (Debian ships it apart), or it failed.
    """
    pip = [str(venv / "bin" / "python"), "-m", "pip", "--version"]
    if (venv / "bin" / "python").exists() and _runs(pip):
        inside = version_of(str(venv / "bin" / "python"))
        if inside and fits(inside):
            return
    if not _runs([python, "-c", "import venv, ensurepip"]):
        version = version_of(python) or OLDEST
        raise SetupError(
            f"{python} has no venv module: install it (Debian, Ubuntu: apt install python3-venv, "
            f"or python{version[0]}.{version[1]}-venv) and run make again."
        )
    say(f"Making {venv} with {python}")
    done = subprocess.run(
        [python, "-m", "venv", "--clear", str(venv)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SetupError(f"{python} could not make {venv}: {last_line(done.stdout + done.stderr)}")


def pip_commands(root: Path, venv: Path) -> list[list[str]]:
    """What pip is to install, in order; torch first where an index of its own is given.

    Alone then: what torch needs is pinned, and an index of torch need not have those versions.
    """
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--no-input"]
    pip += ["--disable-pip-version-check", "--progress-bar", "off"]
    pip += ["-c", str(root / "constraints.txt")]
    index = os.environ.get(TORCH_INDEX)
    first = [[*pip, "--no-deps", "--index-url", index, "torch"]] if index else []
    return [*first, [*pip, "-e", f"{root}[dev]"]]


def run_pip(command: list[str], log: Path) -> None:
    """Run pip, say what it is doing, keep all it says in `log`.

    Raises:
        SetupError: it failed; why, what to do where that is known, and the log's path.
    """
    said = []
    with log.open("a") as file:
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            progress = Progress()
            for line in process.stdout:
                file.write(line)
                said.append(line)
                progress.see(line)
        progress.end()
    if process.returncode:
        raise SetupError(f"pip failed: {why(''.join(said))} (all of it: {log})")


class Progress:
    """One line about what pip does: rewritten on a terminal, every 20 packages elsewhere."""

    def __init__(self) -> None:
        self._packages = 0
        self._terminal = sys.stdout.isatty()

    def see(self, line: str) -> None:
        """Take one line of pip's output."""
        words = line.split()
        if line.startswith("Collecting") and len(words) > 1:
            self._packages += 1
            if self._terminal:
                sys.stdout.write(f"\r\033[K  package {self._packages}: {words[1]}")
                sys.stdout.flush()
            elif self._packages % 20 == 0:
                say(f"  {self._packages} packages fetched")
        elif line.startswith("Installing collected packages"):
            self.end()
            say(f"  installing {line.count(',') + 1} packages")

    def end(self) -> None:
        """Leave the rewritten line behind."""
        if self._terminal and self._packages:
            sys.stdout.write("\r\033[K")
            sys.stdout.flush()


def why(text: str) -> str:
    """What pip's output comes down to: a cause that is known, with the remedy, else its error."""
    known = (remedy for sign, remedy in CAUSES if re.search(sign, text))
    return next(known, last_line(text))


def last_line(text: str) -> str:
    """The line that says why: the last that begins with ERROR, else the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR:", "error:", "Error:"))]
    return (errors or lines or ["it said nothing"])[-1]


def set_up(root: Path, venv: Path) -> bool:
    """Make the environment what it must be; True where anything had to be installed.

    Raises:
        SetupError: something is missing; the message has the remedy.
    """
    if is_current(root, venv):
        return False
    python = find_python()
    check_disk(root)
    began = time.monotonic()
    make_venv(python, venv)
    log = venv / "setup.log"
    log.write_text("")
    say(f"Installing the pinned packages (minutes, once; log: {log})")
    for command in pip_commands(root, venv):
        run_pip(command, log)
    (venv / "homeostat.stamp").write_text(stamp_of(root, venv))
    say(f"Set up in {time.monotonic() - began:.0f} s")
    return True


def say(text: str) -> None:
    """Tell the person at the terminal."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _runs(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def main(arguments: list[str] | None = None) -> int:
    """Set up; 0, or 6 with one line about what is missing."""
    parser = argparse.ArgumentParser(description="Make the virtual environment of Homeostat.")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository")
    parser.add_argument("--venv", type=Path, default=None, help="default: .venv in the repository")
    options = parser.parse_args(arguments)
    root = options.root.resolve()
    try:
        set_up(root, (options.venv or root / ".venv").absolute())
    except SetupError as error:
        sys.stderr.write(f"{error}\n")
        return 6
    except OSError as error:
        sys.stderr.write(f"Set-up failed: {error}. Mend that and run make again.\n")
        return 6
    return 0


if __name__ == "__main__":
    sys.exit(main())
