"""What `homeostat doctor` looks at: each check says what it saw, and what to do about it."""

from __future__ import annotations

import functools
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

from homeostat import bootstrap
from homeostat.errors import HomeostatError
from homeostat.settings import Settings
from homeostat.supervisor import read_state
from homeostat.supervisor.parts import Part, parts, ports
from homeostat.supervisor.ports import check_port

CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints.txt"
_LOW_DISK_BYTES = 1024**3


@dataclass(frozen=True)
class Check:
    """One thing looked at: `remedy` says what to do where it failed."""

    name: str
    passed: bool
    text: str
    remedy: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def examine(settings: Settings) -> list[Check]:
    """Look at everything; a failed check never hides the next one."""
    state = read_state(settings.state_dir.resolve())
    up = bool(state and state.is_alive())
    checks = [check_python(), check_packages(CONSTRAINTS), check_disk(settings)]
    if not up:
        checks += _ports(settings)
    checks.append(check_database(settings))
    checks += _servers(settings, up)
    return checks


def check_python() -> Check:
    """Whether this Python is one that we are tested with."""
    version = (sys.version_info[0], sys.version_info[1])
    return Check(
        "python",
        bootstrap.fits(version),
        f"{version[0]}.{version[1]} at {sys.executable}",
        "Use Python 3.11, 3.12 or 3.13: run `make setup`.",
    )


def check_packages(constraints: Path) -> Check:
    """Whether what we depend on is installed in the versions that were tested together."""
    if not constraints.is_file():
        return Check("packages", True, "no constraints.txt beside this installation to compare")
    wrong = list(wrong_packages(constraints))
    if not wrong:
        return Check("packages", True, "all as pinned in constraints.txt")
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return Check("packages", False, "; ".join(wrong[:3]) + more, "Run `make setup`.")


def wrong_packages(constraints: Path) -> Iterator[str]:
    """Each installed package whose version is not the pinned one, as a sentence."""
    for name, pinned in pins(constraints).items():
        try:
            # A build's local part (torch's +cpu) is the same version.
            present = metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            continue  # pinned for other extras or machines; pip saw to what is required
        if present != pinned:
            yield f"{name} is {present}, tested with {pinned}"


def pins(constraints: Path) -> dict[str, str]:
    """The pinned versions by package name."""
    lines = (line.partition("#")[0].strip() for line in constraints.read_text().splitlines())
    pairs = (line.partition("==") for line in lines if "==" in line)
    return {name.strip(): version.partition(";")[0].strip() for name, _, version in pairs}


def check_disk(settings: Settings) -> Check:
    """Whether the state folder's disk has room."""
    folder = settings.state_dir.resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    return Check(
        "disk",
        free >= _LOW_DISK_BYTES,
        f"{free / 1024**3:.1f} GB free at {folder}",
        "Free some space, or set state_dir to another disk.",
    )


def check_database(settings: Settings) -> Check:
    """Whether the lifecycle database answers and its schema is this version's."""
    from registry.database import check_schema, connect

    path = settings.state_dir.resolve() / "lifecycle.db"
    if not settings.database_url and not path.exists():
        return Check("database", True, "not made yet; `homeostat up` makes it")

    def look() -> str:
        engine = connect(settings.database)
        try:
            check_schema(engine)
        finally:
            engine.dispose()
        return f"schema up to date ({engine.dialect.name})"

    return _attempt("database", look)


def _ports(settings: Settings) -> list[Check]:
    try:
        wanted = ports(settings)
    except HomeostatError as error:
        return [Check("ports", False, error.message, error.remedy)]
    return [
        _attempt(f"port {port}", functools.partial(_free, settings, port, part))
        for port, part in wanted.items()
    ]


def _free(settings: Settings, port: int, part: Part) -> str:
    check_port(settings.host, port, part.port_setting)
    return f"free for {part.name}"


def _servers(settings: Settings, up: bool) -> list[Check]:
    lately = datetime.now(UTC) - timedelta(seconds=30)
    checks: list[Check] = []
    for part in parts(settings, {}):
        if part.once:
            continue
        if part.ours and not up:
            checks.append(Check(part.name, True, "not started; `homeostat up` starts it"))
            continue
        where = f" at {part.address}" if part.address else ""
        log = part.log(settings.state_dir.resolve())
        remedy = f"See {log}." if part.ours else f"Start it, or empty {part.name}_url."
        passed = part.ready(lately)
        checks.append(Check(part.name, passed, f"{'answers' if passed else 'away'}{where}", remedy))
    return checks


def _attempt(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except HomeostatError as error:
        return Check(name, False, error.message, error.remedy)
