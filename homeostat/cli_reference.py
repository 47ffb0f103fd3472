"""The reference pages, made from the code: `make docs` writes them, a test compares them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.main import get_command
from typer.testing import CliRunner

from homeostat.cli import app
from homeostat.commands.exits import MEANINGS, exit_code
from homeostat.errors import HomeostatError
from homeostat.policy import AlertRoute, Policy
from homeostat.setting_tables import AlertingSettings, Grant, LogSettings, OidcSettings
from homeostat.settings import PREFIX, Settings

DOCS = Path(__file__).resolve().parent.parent / "docs"
_ROOMS = ("homeostat", "models", "monitoring", "registry", "serving", "flows")
_MADE = "<!-- Made by `make docs` from the code; change it there. -->"
_WIDTH = 96


def commands() -> str:
    """docs/commands.md: every command's help, and the exit codes."""
    parts = [
        "# Commands",
        _MADE,
        "Reading commands take `--json`. An error is one line on the error output: what was "
        "wrong, then what to do. `homeostat --install-completion` has bash, zsh, fish or "
        "PowerShell complete commands and options (`--show-completion` prints what it adds).",
        "## Exit codes",
        _table(("code", "meaning"), [(str(code), text) for code, text in MEANINGS.items()]),
    ]
    runner = CliRunner()
    for path in _paths(get_command(app), ()):
        said = runner.invoke(
            app, [*path, "--help"], prog_name="homeostat", terminal_width=_WIDTH
        ).output
        parts += [f"## homeostat {' '.join(path)}", f"```text\n{said.strip()}\n```"]
    return "\n\n".join(parts) + "\n"


def settings() -> str:
    """docs/settings.md: every setting and every key of a model's policy."""
    parts = [
        "# Settings",
        _MADE,
        f"They stand in `homeostat.toml` (another file: `{PREFIX}CONFIG`). An environment "
        f"variable goes above the file: `{PREFIX}GATEWAY_PORT`, "
        f"`{PREFIX}MODELS__DIGITS__GATES__MIN_ACCURACY`. A wrong key is an error that names the "
        "nearest right one. `homeostat settings` shows what is in effect.",
        "## The installation",
        _fields(Settings, skip=("models", "log", "alerting", "oidc")),
        "## The prediction log: `[log]`",
        _summary(LogSettings),
        _fields(LogSettings),
        "## Alerts: `[alerting]`",
        _summary(AlertingSettings),
        _fields(AlertingSettings),
        "## Signing in by OpenID Connect: `[oidc]`",
        _summary(OidcSettings),
        _fields(OidcSettings),
        "## One of its grants: `[[oidc.grants]]`",
        _summary(Grant),
        _fields(Grant),
        "## A model's policy: `[models.NAME]`",
        _summary(Policy),
        _fields(Policy),
        *_tables_below("models.NAME", Policy),
        '## One of the `alerts`: `{ to = "...", severity = "page" }`',
        _summary(AlertRoute),
        _fields(AlertRoute),
    ]
    return "\n\n".join(parts) + "\n"


def errors() -> str:
    """docs/errors.md: every code with its meaning, HTTP status and exit code."""
    from serving.problems import status_of

    rows: list[tuple[str, ...]] = [
        (f"`{code}`", str(status_of(code)), str(exit_code(code)), meaning)
        for code, meaning in sorted(codes().items())
    ]
    parts = [
        "# Errors",
        _MADE,
        "Over HTTP an error is a problem document (RFC 9457) of type `urn:homeostat:CODE` with "
        "`code`, `title`, `status`, `detail` (what was wrong), `remedy` (what to do) and the "
        "error's own fields. On the command line it is one line and an exit code.",
        _table(("code", "HTTP status", "exit code", "meaning"), rows),
    ]
    return "\n\n".join(parts) + "\n"


def codes() -> dict[str, str]:
    """The meaning of each code that any room can raise, from the docstring of its class."""
    for name in _ROOMS:
        room = importlib.import_module(name)
        for module in pkgutil.walk_packages(room.__path__, f"{name}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    found = {"internal": "Something that nobody foresaw; the log has the cause."}
    for kind in _kinds(HomeostatError):
        text = " ".join(inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].split())
        found.setdefault(kind.code, text)
    return found


def pages() -> dict[str, str]:
    """Each page by the name of its file."""
    return {"commands.md": commands(), "settings.md": settings(), "errors.md": errors()}


def main() -> None:
    """Write all pages."""
    DOCS.mkdir(exist_ok=True)
    for name, text in pages().items():
        (DOCS / name).write_text(text)


def _paths(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:  # noqa: ANN401 - click has no one type for it
    """The words of each command; Typer brings its own click, whose types are not public."""
    inner: dict[str, Any] = getattr(command, "commands", {})
    if not inner or getattr(command, "invoke_without_command", False):
        yield path
    for name, each in inner.items():
        yield from _paths(each, (*path, name))


def _tables_below(path: str, table: type[BaseModel]) -> Iterator[str]:
    """The sections of the tables in a table, and of those in them."""
    for name, field in table.model_fields.items():
        inner = _table_of(field)
        where = f"{path}.{name}"
        if inner is None and (inner := _table_of_each(field)) is not None:
            where += ".COLUMN"
        if inner is not None:
            yield from (f"## `[{where}]`", _summary(inner), _fields(inner))
            yield from _tables_below(where, inner)


def _fields(table: type[BaseModel], skip: tuple[str, ...] = ()) -> str:
    return _table(
        ("key", "default", "meaning"),
        [
            (f"`{name}`", _default(field), " ".join((field.description or "").split()))
            for name, field in table.model_fields.items()
            if name not in skip
        ],
    )


def _default(field: FieldInfo) -> str:
    if _table_of(field) is not None:
        return "its own table"
    value: Any = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or value in ("", (), {}) or "Secret" in type(value).__name__:
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`"


def _table_of(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _table_of_each(field: FieldInfo) -> type[BaseModel] | None:
    """The table that each value of a dict is."""
    inner = get_args(field.annotation)[-1:]
    found = inner[0] if inner else None
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def _summary(table: type[BaseModel]) -> str:
    return inspect.cleandoc(table.__doc__ or "")


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [columns, tuple("---" for _ in columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _kinds(root: type[HomeostatError]) -> Iterator[type[HomeostatError]]:
    for kind in root.__subclasses__():
        yield kind
        yield from _kinds(kind)


if __name__ == "__main__":
    main()
