from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from homeostat.cli_reference import DOCS, codes, errors, pages
from homeostat.commands.incidents import runbook
from homeostat.commands.loop import _labels, _plain, _rows
from homeostat.policy import Policy
from homeostat.settings import Settings
from monitoring.runbooks import runbook_text


@pytest.mark.parametrize("name", ["commands.md", "settings.md", "errors.md"])
def test_the_reference_is_what_the_code_says(name: str) -> None:
    assert (DOCS / name).read_text() == pages()[name], "run `make docs`"


def test_every_setting_is_described() -> None:
    tables: list[type[BaseModel]] = [Settings, Policy]
    tables += [type(value) for _name, value in Policy() if isinstance(value, BaseModel)]
    missing = [
        f"{table.__name__}.{name}"
        for table in tables
        for name, field in table.model_fields.items()
        if not field.description
    ]
    assert not missing


def test_every_code_is_documented() -> None:
    page = errors()
    assert all(f"| `{code}` |" in page for code in codes())


def test_help_comes_at_once_because_nothing_heavy_is_imported() -> None:
    heavy = ("torch", "mlflow", "prefect", "pandas", "sqlalchemy", "pydantic", "httpx", "psutil")
    script = (
        "import sys; import homeostat.cli; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_command_that_tells_something_tells_it_to_programs_too() -> None:
    parts = (DOCS / "commands.md").read_text().split("\n## homeostat ")[1:]
    silent = {part.split("\n")[0] for part in parts if "--json" not in part}
    assert silent == {"up", "down", "demo", "db upgrade"}


def test_a_runbook_is_told_to_programs(capsys: pytest.CaptureFixture[str]) -> None:
    runbook(as_json=True)
    names = json.loads(capsys.readouterr().out)
    runbook(names[0], as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told == {"runbook": names[0], "text": runbook_text(names[0])}


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        ([1, 2, 3], [[1, 2, 3]]),
        ([[1], [2]], [[1], [2]]),
        ({"age": 3}, [{"age": 3}]),
        ([{"age": 3}], [{"age": 3}]),
        ({"rows": [[1]]}, [[1]]),
        ({"row": [1]}, [[1]]),
        ([], []),
    ],
)
def test_rows_are_taken_as_people_write_them(given: object, rows: list[object]) -> None:
    assert _rows(given) == rows


@pytest.mark.parametrize(
    ("text", "value"), [("7", 7), ("7.5", 7.5), ("true", True), ("cat", "cat"), ("[1]", "[1]")]
)
def test_a_label_of_the_command_line_is_what_it_reads_as(text: str, value: object) -> None:
    assert _plain(text) == value


def test_labels_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "labels.json"
    file.write_text('[{"id": "a", "label": 7}]')
    assert _labels(str(file)) == [{"id": "a", "label": 7}]
