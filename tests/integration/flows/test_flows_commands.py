"""What the command line tells of a version while no gateway runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from typer.testing import CliRunner

from flows.pipeline import pipeline
from homeostat.cli import app
from homeostat.errors import HomeostatError
from registry import transaction
from registry.tables import LedgerRow

if TYPE_CHECKING:
    from tests.integration.flows.conftest import Site


def said(*words: str, fails: int = 0) -> str:
    done = CliRunner().invoke(app, list(words))
    if isinstance(done.exception, HomeostatError):
        return str(done.exception)
    assert done.exit_code == fails, (done.output, done.exception)
    return done.stdout


def test_a_version_is_shown_chosen_traced_documented_and_renumbered(site: Site) -> None:
    digest = pipeline(site.model)["digest"]
    model = site.model

    row = json.loads(said("versions", model, "--json"))["versions"][0]
    assert (row["number"], row["role"], row["digest"]) == ("1.0.0", "champion", digest)
    assert row["verdict"]["passed"]
    assert row["accuracy"]["0"] > 0.95
    heading, line, *_ = said("versions", model).splitlines()
    assert heading.split()[:4] == ["number", "v", "role", "gates"]
    assert line.split()[:4] == ["1.0.0", "1", "champion", "passed"]

    assert said("choose", model, "--min-accuracy", "90%").startswith("Version 1.0.0")
    none = said("choose", model, "--min-accuracy", "1.0", fails=4)
    assert none.startswith(f"No version of {model} can be recommended.")
    assert "is not a latency" in said("choose", model, "--max-latency", "20")

    (traced,) = json.loads(said("lineage", model, "1", "--json"))
    assert traced["lineage"]["digest"] == digest
    assert traced["lineage"]["data"]["rows"] == 1797
    assert f"digest       {digest}" in said("lineage", model, "1").splitlines()
    assert f"No lineage of version 9 of '{model}'" in said("lineage", model, "9")

    assert f"- Digest: `{digest}`" in said("card", model, "1").splitlines()
    assert said("card", model, "1", "--diff", "1") == ""
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(said("bom", model, "1")) is None
    assert "has no version 9" in said("bom", model, "9")
    (told,) = json.loads(said("card", model, "1", "--json"))
    assert told["text"].rstrip() + "\n" == said("card", model, "1")
    both = json.loads(said("bom", model, "1", "--diff", "1", "--json"))
    assert [json.loads(one["text"])["specVersion"] for one in both] == ["1.6", "1.6"]

    said("renumber", model, "1", "2.0.0", "--reason", "callers must know")
    assert site.tags(1)["homeostat.semver"] == "2.0.0"
    assert json.loads(said("versions", model, "--json"))["versions"][0]["number"] == "2.0.0"
    assert "is not a version number" in said("renumber", model, "1", "two", "--reason", "no")
    with transaction(site.maker) as session:
        line_of = session.query(LedgerRow).filter_by(model=model, kind="number").one()
        assert (line_of.before, line_of.after) == ("1.0.0", "2.0.0")
        assert line_of.reason == "callers must know"
