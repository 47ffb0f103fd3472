"""JSON that an enemy wrote and sealed: descriptions, profiles, golden rows, code by its name."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from homeostat.errors import ArtifactError
from models import Digits, load_model

if TYPE_CHECKING:
    from tests.unit.hostile.conftest import Version

DESCRIPTION, PROFILE, GOLDEN = "learner.json", "profile.json", "golden.json"
CONFIG = Digits(channels=2, hidden=8).config()  # of the version
HUGE: list[Any] = [10**9, 2**31, 2**63, 2**70, -1, 0, 1e9, 1e400, None, "8", True, [8], {}]


def described(**changes: Any) -> bytes:  # noqa: ANN401 - any JSON
    whole = {"schema": 1, "learner": "digits", "config": CONFIG} | changes
    return json.dumps(whole).encode()


DESCRIPTIONS: dict[str, Callable[[], bytes]] = {
    **{
        f"{field} {value}": partial(described, config=CONFIG | {field: value})
        for field in ("hidden", "channels")
        for value in HUGE
        if value is not True
    },
    "a field too many": lambda: described(config=CONFIG | {"__reduce__": "os.system"}),
    "no config": lambda: described(config={}),
    "a list for config": lambda: described(config=[]),
    "another schema": lambda: described(schema=2),
    "a name twice": lambda: described()[:-1] + b',"learner":"os:system"}',
    "a config twice": lambda: described()[:-1] + b',"config":{}}',
    "deep lists": lambda: b"[" * 200_000,
    "deep in its config": lambda: (
        b'{"schema":1,"learner":"digits","config":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001
    ),
    "NaN": lambda: b'{"schema":1,"learner":"digits","config":{"hidden":NaN}}',
    "Infinity": lambda: b'{"schema":1,"learner":"digits","config":{"hidden":Infinity}}',
    "a long number": lambda: (
        b'{"schema":1,"learner":"digits","config":{"hidden":%s}}' % (b"9" * 100_000)
    ),
    "half a surrogate": lambda: b'{"schema":1,"learner":"\\ud800","config":{}}',
    "17 MiB": lambda: b'{"a":"' + b"x" * 17 * 1024 * 1024 + b'"}',
    "YAML": lambda: b"!!python/object/apply:os.system ['true']",
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_a_forged_description_is_refused(version: Version, name: str) -> None:
    version.write(DESCRIPTION, DESCRIPTIONS[name]())
    version.refused_by_all_doors(version.seal())


REFERENCES = [
    *[
        "os:system",
        "builtins:eval",
        "builtins:exec",
        "subprocess:Popen",
        "posix:system",
        "pickle:loads",
    ],
    *["importlib:import_module", "shutil:rmtree", "models.artifact:load_model", "torch:load"],
    *["os.path:join", "digits:", ":digits", "models.digits:Digits", "DIGITS", "digits ", " digits"],
    *[
        "d\u0456gits",
        "digits\0",
        "../digits",
        "/etc/passwd",
        "",
        "x" * 10_000,
        "table\n",
        "sys:modules",
    ],
]


@pytest.mark.parametrize("reference", REFERENCES)
def test_code_that_a_version_names_is_not_looked_up(
    version: Version, canary: Path, reference: str
) -> None:
    config = {"command": f"touch {canary}", "args": [f"open({str(canary)!r}, 'w')"]}
    version.write(DESCRIPTION, described(learner=reference, config=config))
    digest = version.seal()
    for allowed in ({"digits"}, set[str](), {"digits", "table"}):
        with pytest.raises(ArtifactError, match="not allowed here"):
            load_model(version.folder, allowed=allowed, digest=digest)
    version.refused_by_all_doors(digest)


FORGED_EXTRAS: dict[str, Callable[[bytes], bytes]] = {
    "a list": lambda _: b"[]",
    "nothing": lambda _: b"",
    "not text": lambda _: b"\xff\xfe\x00",
    "deep lists": lambda _: b"[" * 200_000,
    "NaN for a number": lambda text: text.replace(b"0.0", b"NaN", 1),
    "too large a number": lambda text: text.replace(b"0.0", b"1e999", 1),
    "text for a number": lambda text: text.replace(b"0.0", b'"0.0"', 1),
    "a pickle": lambda text: pickle.dumps(text),
}


@pytest.mark.parametrize("file", [PROFILE, GOLDEN])
@pytest.mark.parametrize("name", FORGED_EXTRAS)
def test_a_forged_profile_or_golden_file_keeps_the_version_out(
    version: Version, file: str, name: str
) -> None:
    version.write(file, FORGED_EXTRAS[name](version.read(file)))
    version.kept_out(version.seal())


@pytest.mark.parametrize(
    "golden",
    [
        {"rows": [[0.0] * 64], "outputs": [[1.0], [0.5, 0.5]]},
        {"rows": [[0.0] * 64], "outputs": []},
        {"rows": [[0.0] * 64], "outputs": [[0.5] * 9]},
        {"rows": [[0.0] * 63], "outputs": [[0.1] * 10]},
        {"rows": ["import os"], "outputs": [[0.1] * 10]},
        {"rows": [[1e30] * 64], "outputs": [[0.1] * 10]},
    ],
    ids=str,
)
def test_golden_rows_that_are_answered_otherwise_keep_the_version_out(
    version: Version, golden: dict[str, Any]
) -> None:
    version.write(GOLDEN, json.dumps(golden).encode())
    version.kept_out(version.seal())
