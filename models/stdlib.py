"""The source of Python's own standard library as rows of text: what the learner `code` is shown by.

It is on every machine that runs Python, so it needs no download, and each package has a style.
"""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

from homeostat.errors import DataError

USUAL = "json"
WINDOW = 64  # characters of a row
FOLLOWS = 8  # characters of its label
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


def windows(packages: Sequence[str]) -> tuple[list[dict[str, str]], list[str]]:
    """Rows of a text each, side by side in their files, and what comes after each.

    Args:
        packages: Names such as `json`, `email.mime` or `argparse`, in the order wanted.

    Raises:
        DataError: there is no such package with source here.
    """
    rows: list[dict[str, str]] = []
    labels: list[str] = []
    for package in packages:
        for path in _files(package):
            text = path.read_text(encoding="utf-8", errors="replace")
            for start in range(0, len(text) - WINDOW, WINDOW):
                end = start + WINDOW
                rows.append({"text": text[start:end]})
                labels.append(text[end : end + FOLLOWS])
    return rows, labels


def _files(package: str) -> Iterator[Path]:
    """The source files of a package, without its tests, in the order of their names."""
    root = Path(sysconfig.get_path("stdlib"))
    place = root.joinpath(*package.split(".")) if _NAME.fullmatch(package) else root / "?"
    found = sorted(place.rglob("*.py")) if place.is_dir() else []
    if (alone := place.with_suffix(".py")).is_file() and _NAME.fullmatch(package):
        found.append(alone)
    found = [path for path in found if not {"test", "tests"} & set(path.relative_to(root).parts)]
    if not found:
        raise DataError(
            f"The standard library of this Python has no source of a package '{package[:80]}'.",
            remedy="Name packages of it, such as builtin:stdlib/json,email.",
        )
    yield from found
