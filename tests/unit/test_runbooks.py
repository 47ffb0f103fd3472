"""Every alert leads to a page that says what to do, in commands that there are."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from homeostat.cli import app
from homeostat.errors import InputError
from monitoring import Alert
from monitoring.delivery import with_links
from monitoring.outbound import Sending
from monitoring.runbooks import FOLDER, RUNBOOKS, runbook_of
from monitoring.signals import Kind
from registry.incident_signals import SUBJECTS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path for path in (ROOT / FOLDER).glob("*.md") if path.stem != "README")
SECTIONS = [
    "What it means",
    "What has been done already",
    "Look here",
    "Undo",
    "Escalate",
]
SILENT = ("predictions", "labels", "monitor")  # subjects of the dead man's switch


def test_every_kind_of_incident_has_a_runbook_and_no_runbook_is_orphaned() -> None:
    assert {path.stem for path in PAGES} == RUNBOOKS
    reached = {runbook_of(kind, {"detector": "any"}) for kind in get_args(Kind)}
    reached |= {runbook_of("input-drift", {"verdict": {"verdict": "data-break"}})}
    for subject in SUBJECTS:
        kind = "silence" if subject in SILENT else "registry"
        name = runbook_of(kind, {"subject": subject, "detector": "custody"})
        assert name == f"{kind}-{subject}"
        reached.add(name)
    reached |= {runbook_of("registry", {"detector": source}) for source in sources()}
    rules = (ROOT / "docs/ops/homeostat.rules.yml").read_text()
    reached |= set(re.findall(rf"runbook: {FOLDER}/(.*)\.md$", rules, re.MULTILINE))
    assert reached == RUNBOOKS


def sources() -> set[str]:
    """What the gateway says of who saw something that no detector sees."""
    found = {"rollout"}  # the default of `Teller.tell`
    for path in (ROOT / "serving").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            named = [key.value for key in node.keywords if key.arg == "source"]
            if isinstance(node.func, ast.Name) and node.func.id == "registry_signal":
                named += node.args[:1]
            found |= {str(one.value) for one in named if isinstance(one, ast.Constant)}
    return found


def test_a_cause_without_a_page_of_its_own_has_that_of_its_kind() -> None:
    assert runbook_of("registry", {"detector": "reconciler"}) == "registry"
    assert runbook_of("loss", {"detector": "LossDetector"}) == "loss"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_runbook_says_what_it_means_what_was_done_where_to_look_and_how_to_undo(
    path: Path,
) -> None:
    text = path.read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    assert f"[{path.stem}]({path.name})" in (path.parent / "README.md").read_text()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_commands_of_a_runbook_are_commands(path: Path) -> None:
    lines = list(commands(path.read_text()))
    assert lines
    for line in lines:
        assert trouble(line) == "", line


def test_a_command_that_is_none_is_found() -> None:
    assert trouble("homeostat mend digits") == "no command mend"
    assert trouble("homeostat rollback digits --because x") == "no option --because"
    assert trouble("homeostat explain") == "too few arguments"


def commands(text: str) -> Iterator[str]:
    """Each `homeostat ...` of a page, in a block or in a sentence."""
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        yield from (line.split("  #")[0].strip() for line in block.splitlines())
    yield from re.findall(r"`(homeostat [^`]*)`", text)


def trouble(line: str) -> str:
    """What is wrong with a command line of ours; empty: nothing."""
    program, *words = shlex.split(line)
    if program != "homeostat":
        return f"not ours: {program}"
    command: Any = get_command(app)
    while hasattr(command, "commands") and (words or not command.invoke_without_command):
        below = command.commands.get(words[0]) if words else None
        if below is None:
            return f"no command {words[0] if words else ''}"
        command, words = below, words[1:]
    options = {name: one for one in command.params for name in one.opts if name.startswith("--")}
    needed = sum(one.required for one in command.params if one.param_type_name == "argument")
    given = 0
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            given += 1
        elif word not in options:
            return f"no option {word}"
        elif not options[word].is_flag:
            words.pop(0)
    missing = [name for name, one in options.items() if one.required and name not in line]
    return f"lacks {missing[0]}" if missing else "too few arguments" if given < needed else ""


def test_an_alert_leads_to_its_runbook_and_its_page() -> None:
    alert = Alert(
        id="1",
        key="digits:1@g1",
        status="open",
        severity="page",
        title="digits:1: accuracy fell",
        text="Accuracy fell. To undo: homeostat rollback digits",
        model="digits",
        at=datetime(2026, 11, 26, tzinfo=UTC),
        details={"runbook": "loss", "incident": "0190-1"},
    )
    told = with_links(alert, Sending(runbooks_url="https://wiki.example.org/books/"))
    assert told.details["runbook"] == "https://wiki.example.org/books/loss.md"
    assert told.text.splitlines() == [alert.text, f"Runbook: {told.details['runbook']}"]
    told = with_links(alert, Sending(page_url="https://homeostat.example.org"))
    assert told.details["page"] == "https://homeostat.example.org/page/incidents/0190-1"
    assert told.text.splitlines()[1:] == [
        "Runbook: docs/runbooks/loss.md",
        "Page: https://homeostat.example.org/page/incidents/0190-1",
    ]


@pytest.mark.parametrize("name", ["loss", "docs/runbooks/loss.md", "https://wiki/x/loss.md"])
def test_a_runbook_is_printed_by_whatever_an_alert_calls_it(name: str) -> None:
    done = CliRunner().invoke(app, ["runbook", name])
    assert done.output == (ROOT / FOLDER / "loss.md").read_text()


def test_runbooks_are_listed_and_one_that_is_none_is_refused() -> None:
    assert set(CliRunner().invoke(app, ["runbook"]).output.split()) == RUNBOOKS
    done = CliRunner().invoke(app, ["runbook", "../../pyproject"])
    assert isinstance(done.exception, InputError)
