"""The refusals that docs/access.md shows are what a gateway answers."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from homeostat.errors import HomeostatError
from homeostat.policy import Policy
from homeostat.settings import Settings
from registry.tokens import VERBS, Token, hash_of
from serving.access import Access, Caller
from serving.problems import headers_of, problem

PAGE = (Path(__file__).parents[2] / "docs" / "access.md").read_text()
SHOWN = {
    int(status): (head, json.loads(body))
    for status, head, body in re.findall(
        r"HTTP/1.1 (\d+) [\w ]+\n((?:[a-z].*\n)+)\n(\{.*\})\n", PAGE
    )
}
SECRET = "_".join(("hst", "a5e15fa58301", "secret"))


@pytest.fixture
def access(tmp_path: Path) -> Access:
    access = Access(
        Settings(
            state_dir=tmp_path,
            token_rate=5,
            token_burst=5,
            models={"digits": Policy(), "letters": Policy()},
        )
    )
    noon = datetime.now(UTC)
    access.know(
        [
            Token(
                *("a5e15fa58301", "shop", hash_of(SECRET), ("predict", "label"), ("digits",)),
                *(noon, "test", None, None, None),
            )
        ]
    )
    return access


def refusals(access: Access) -> dict[int, HomeostatError]:
    """What a holder is told, by its status."""
    found: list[HomeostatError] = []

    def ask(what: object) -> None:
        assert callable(what)
        with pytest.raises(HomeostatError) as caught:
            what()
        found.append(caught.value)

    caller: Caller = access.check(b"Bearer " + SECRET.encode())

    def too_often() -> None:
        for _ in range(6):
            caller.meter.enter(caller.name, 0.0)

    ask(lambda: access.check(None))
    ask(lambda: access.require(caller, "read", "digits"))
    ask(lambda: access.require(caller, "predict", "letters"))
    ask(too_often)
    return {int(str(problem(error)["status"])): error for error in found}


def test_the_documented_refusals_are_what_is_answered(access: Access) -> None:
    told = refusals(access)
    assert sorted(told) == sorted(SHOWN) == [401, 403, 404, 429]
    for status, error in told.items():
        head, body = SHOWN[status]
        assert problem(error) == body
        for name, value in headers_of(error).items():
            assert f"{name}: {value}\n" in head


def test_every_verb_is_documented() -> None:
    for verb in VERBS:
        assert f"| `{verb}` |" in PAGE
