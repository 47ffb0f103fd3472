"""The peers' environments: one each, made once under `.benchmarks/`, pinned whole.

What a peer needs is in `benchmarks/peers/NAME.txt`, every package of it with its version. Torch
is Homeostat's own, linked: the same binary for every side, and nothing large is fetched twice.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from benchmarks.servers import ROOT

FOLDER = ROOT / ".benchmarks"
INSTALL_SECONDS = 900
QUIET = {"OMP_NUM_THREADS": "1", "NML_DISABLE_USAGE_LOGGING": "1", "DO_NOT_TRACK": "1"}
SHARED = ("torch", "numpy", "safetensors")


class Missing(Exception):
    """A peer cannot be installed: why, in one line."""


def requirements_of(name: str) -> Path:
    """The file that pins what a peer needs; there is none for what runs in Homeostat's own."""
    return ROOT / "benchmarks" / "peers" / f"{name}.txt"


def python_of(name: str) -> str:
    """The Python that runs a side, installed where it is not yet.

    Raises:
        Missing: it cannot be installed here.
    """
    pinned = requirements_of(name)
    if not pinned.exists():
        return sys.executable
    folder = FOLDER / name
    python, stamp = folder / "bin" / "python", folder / "installed.stamp"
    wanted = f"{hashlib.sha256(pinned.read_bytes()).hexdigest()} {sys.version}\n"
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return str(python)
    print(f"Installing {name} into {folder.relative_to(ROOT)} (once) ...", flush=True)
    install = [str(python), "-m", "pip", "install", "--no-input", "--no-deps", "-q"]
    install += ["--disable-pip-version-check", "-r", str(pinned)]
    for command in ([sys.executable, "-m", "venv", "--clear", str(folder)], install):
        run(command)
    share_torch(folder)
    run([str(python), "-c", "import torch, numpy, safetensors.torch"])
    stamp.write_text(wanted)
    return str(python)


def said_by(peer: str, module: str, *arguments: str, seconds: float) -> str:
    """The last line that a module of `benchmarks.peers` prints in its peer's environment.

    Raises:
        Missing: the peer cannot be installed here.
        RuntimeError: the module failed.
    """
    done = subprocess.run(
        [python_of(peer), "-m", f"benchmarks.peers.{module}", *arguments],
        cwd=ROOT,
        env=os.environ | QUIET,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{module} failed: {done.stderr.strip()[-500:]}")
    return done.stdout.strip().splitlines()[-1]


def run(command: list[str]) -> None:
    """Run one step of an installation.

    Raises:
        Missing: it failed.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise Missing(f"not installed in {INSTALL_SECONDS} s") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise Missing(next((line for line in said if line.startswith("ERROR")), said[-1]))


def share_torch(folder: Path) -> None:
    """Link torch, and what it needs, at the end of an environment's path."""
    site = next((folder / "lib").glob("python*/site-packages"))
    links = folder / "shared"
    links.mkdir(exist_ok=True)
    for distribution in closure(SHARED):
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            link = links / top
            if not link.is_symlink():
                link.symlink_to(Path(str(distribution.locate_file(top))).resolve())
    (site / "shared.pth").write_text(f"{links}\n")


def closure(names: tuple[str, ...]) -> list[metadata.Distribution]:
    """The distributions of these names here, and all that they need."""
    found: dict[str, metadata.Distribution] = {}
    open_names = list(names)
    while open_names:
        name = open_names.pop().lower().replace("_", "-")
        if name in found:
            continue
        found[name] = metadata.distribution(name)
        for line in found[name].requires or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                open_names.append(needed.name)
    return list(found.values())
