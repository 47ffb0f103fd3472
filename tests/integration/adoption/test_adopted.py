"""Versions that somebody else logged with MLflow: adopted, served apart, watched, rolled back."""

from __future__ import annotations

import getpass
import os
import pickle
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from mlflow import MlflowClient

from flows.adoption import judge_and_log
from flows.candidates import register_candidate, settle
from flows.champions import fetch
from flows.learning import train_afresh
from flows.lessons import first_lesson
from flows.origin import Origin
from flows.reproduce import reproduce
from flows.site import open_site
from homeostat.clock import utc_now
from homeostat.errors import ArtifactError, Refused
from homeostat.policy import Policy
from registry.lineage import parents
from registry.lineage_records import find_lineage

if TYPE_CHECKING:
    from tests.integration.adoption.conftest import Greenhouse, Grow, Rows


def train_table(greenhouse: Greenhouse) -> int:
    """A version of ours, trained on the same rows and judged beside the adopted champion."""
    name, policy = greenhouse.flower, greenhouse.settings.policy(greenhouse.flower)
    rows, now = greenhouse.reference(), utc_now()
    with open_site(greenhouse.settings) as site:
        champion = fetch(site, name, policy)
        trained = train_afresh(first_lesson(rows, policy), policy, champion)
        origin = Origin("pipeline", name, "ours", "Trained by a test.", now, "reference.parquet")
        tried = judge_and_log(site, policy, origin, trained, champion)
        version = register_candidate(site, name, origin.key, tried)
        assert settle(site, policy, name, version, tried, now) == "challenger", tried.summary
    return version


@pytest.fixture
def mood() -> Iterator[Path]:
    """A file that every user may read."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "mood"
        path.write_text("good")
        yield path


def test_an_adopted_version_answers_as_the_one_that_was_logged(
    greenhouse: Greenhouse, plants: Grow
) -> None:
    frame = plants(2)[:200]
    assert greenhouse.said(frame) == greenhouse.original.predict(frame).tolist()
    new = frame[:1].assign(colour="ultraviolet")  # a text that nobody has seen is passed on
    assert greenhouse.said(new) == greenhouse.original.predict(new).tolist()


def test_an_adopted_version_speaks_the_open_protocol_by_its_schema(
    greenhouse: Greenhouse, plants: Grow
) -> None:
    about = greenhouse.client.get(f"/v2/models/{greenhouse.flower}").json()
    assert about["platform"] == "homeostat_pyfunc"
    assert [(one["name"], one["datatype"]) for one in about["inputs"]] == [
        *(("size", "FP64"), ("petals", "INT64"), ("colour", "BYTES"))
    ]
    frame = plants(2)[:20]
    tensors = [
        {"name": one["name"], "datatype": one["datatype"], "shape": [20]}
        | {"data": frame[one["name"]].tolist()}
        for one in about["inputs"]
    ]
    path = f"/v2/models/{greenhouse.flower}/infer"
    answer = greenhouse.client.post(path, json={"inputs": tensors}).json()
    assert answer["outputs"][0]["data"] == greenhouse.original.predict(frame).tolist()


def test_its_page_and_its_lineage_say_what_it_is_and_where_it_comes_from(
    greenhouse: Greenhouse,
) -> None:
    page = MlflowClient(greenhouse.settings.mlflow_url)
    version = page.get_model_version(greenhouse.flower, "2")  # 1 is the one that was logged
    assert greenhouse.address in str(version.description)
    assert "its maker's code may run" in version.tags["homeostat.scan"]
    digest = version.tags["homeostat.digest"]
    with open_site(greenhouse.settings) as site:
        with site.session() as session:
            assert greenhouse.address in find_lineage(session, greenhouse.flower, 2).record.made_by
            (edge,) = parents(session, digest)
        assert (edge.kind, edge.recipe["adopted_from"]) == ("adopted_from", greenhouse.address)
        assert edge.recipe["verdict"]["passed"] is True
        with pytest.raises(Refused, match="was adopted"):
            reproduce(site, greenhouse.flower, 2, greenhouse.settings.state_dir)


def test_a_row_that_it_cannot_take_is_refused_before_it_is_asked(
    greenhouse: Greenhouse, plants: Grow, as_rows: Rows
) -> None:
    row = as_rows(plants(2)[:1])[0]
    for bad in ({"size": "big"}, {"petals": 1.5}, {"petals": None}, {"colour": 7}, {"more": 1}):
        answer = greenhouse.client.post(
            f"/v1/models/{greenhouse.flower}/predict", json={"rows": [row | bad]}
        )
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-row")


def test_its_process_knows_nothing_of_ours_and_comes_back_when_it_is_killed(
    greenhouse: Greenhouse, plants: Grow
) -> None:
    worker = greenhouse.worker
    frame = plants(3)[:5]
    expected = greenhouse.said(frame)
    about = Path(f"/proc/{worker.pid}")
    environment = (about / "environ").read_bytes()
    assert b"HOMEOSTAT" not in environment
    assert b"the-token" not in environment
    assert worker.user == ("nobody" if os.getuid() == 0 else getpass.getuser())
    if os.getuid() == 0:
        status = (about / "status").read_text()
        assert re.search(r"Uid:(\t65534){4}\n", status)
        assert "CapEff:\t0000000000000000\n" in status
    first = worker.pid
    os.kill(first, 9)
    codes = set()

    def answers() -> bool:
        answer = greenhouse.predict(frame)
        codes.add((answer.status_code, answer.json().get("code")))
        if answer.status_code != 200:
            return False
        assert [one["prediction"] for one in answer.json()["predictions"]] == expected
        return True

    assert not answers()
    greenhouse.wait_for(answers)
    assert codes <= {(200, None), (500, "learner-failed"), (503, "unavailable")}
    assert (503, "unavailable") in codes
    assert worker.pid != first


def test_labels_and_inputs_of_an_adopted_version_raise_alarms(
    greenhouse: Greenhouse, plants: Grow
) -> None:
    moved = plants(5).assign(size=lambda frame: frame["size"] + 2)
    answer = greenhouse.predict(moved).json()
    wrong = {"rose": "daisy", "daisy": "rose"}
    labels = [{"id": one["id"], "label": wrong[one["prediction"]]} for one in answer["predictions"]]
    for start in range(0, len(labels), 100):
        said = greenhouse.client.post("/v1/labels", json={"labels": labels[start : start + 100]})
        assert said.status_code == 200, said.text
    greenhouse.wait_for(lambda: "mean loss" in greenhouse.told())
    greenhouse.wait_for(lambda: "inputs moved" in greenhouse.told())


def test_what_mlflow_lost_of_an_adopted_version_is_restored_from_its_pinned_copy(
    greenhouse: Greenhouse, plants: Grow
) -> None:
    lost, process = greenhouse.routing()["champion"], greenhouse.worker.pid
    digest = greenhouse.routing()["digest"]
    pins = f"/v1/models/{greenhouse.flower}/pins"

    def pinned() -> bool:
        (one,) = greenhouse.client.get(pins, params={"verify": True}).json()["pins"]
        return bool(one["digest"] == digest and one["whole"])

    greenhouse.wait_for(pinned)
    page = MlflowClient(greenhouse.settings.mlflow_url)
    page.delete_model_version(greenhouse.flower, str(lost))
    frame = plants(4)[:20]
    expected = greenhouse.original.predict(frame).tolist()
    assert greenhouse.said(frame) == expected
    greenhouse.wait_for(lambda: f"Version {lost} of {greenhouse.flower}" in greenhouse.told())
    greenhouse.move("restore", version=lost, reason="it serves")
    number = greenhouse.routing()["champion"]
    assert number != lost
    again = page.get_model_version(greenhouse.flower, str(number))
    assert again.tags["homeostat.digest"] == digest
    assert greenhouse.said(frame) == expected
    assert greenhouse.worker.pid == process  # what is loaded is the same
    with open_site(greenhouse.settings) as site, site.session() as session:
        assert find_lineage(session, greenhouse.flower, number).digest == digest


def test_a_version_of_ours_and_an_adopted_one_take_turns(
    greenhouse: Greenhouse, plants: Grow
) -> None:
    adopted = greenhouse.routing()["champion"]
    ours = train_table(greenhouse)
    greenhouse.wait_for(lambda: greenhouse.routing()["challenger"] == ours)
    frame = plants(4)[:20]
    expected = greenhouse.said(frame)
    greenhouse.move("promote", version=ours, reason="it is ours")
    answer = greenhouse.predict(frame).json()
    assert answer["version"] == ours
    assert {one["prediction"] for one in answer["predictions"]} <= {"rose", "daisy"}
    assert greenhouse.routing()["standby"] == adopted
    greenhouse.move("rollback", reason="the adopted one is fine")
    back = greenhouse.predict(frame).json()
    assert back["version"] == adopted
    assert [one["prediction"] for one in back["predictions"]] == expected
    greenhouse.move("promote", version=ours, reason="it is ours", override=True)
    assert greenhouse.predict(frame).json()["version"] == ours


def test_a_process_that_comes_back_as_another_model_is_taken_out_and_told(
    greenhouse: Greenhouse, mood: Path, tmp_path: Path, plants: Grow
) -> None:
    """Its golden rows show what it became before any caller does."""
    ours = greenhouse.routing()["champion"]
    done = greenhouse.adopt(greenhouse.register_moody(mood, tmp_path / "model"))
    assert (done["place"], done["passed"]) == ("challenger", True), done
    greenhouse.wait_for(lambda: greenhouse.routing()["challenger"] == done["version"])
    greenhouse.move("promote", version=done["version"], reason="it is newer")
    frame = plants(4)[:20]
    assert greenhouse.predict(frame).json()["version"] == done["version"]
    worker, right = greenhouse.worker, greenhouse.said(frame)
    mood.write_text("bad")
    os.kill(worker.pid, 9)

    def taken_out() -> bool:
        answer = greenhouse.predict(frame).json()
        if answer.get("version") == done["version"]:
            assert [one["prediction"] for one in answer["predictions"]] == right
        return bool(worker.fault) and answer.get("version") == ours

    greenhouse.wait_for(taken_out)
    history = f"/v1/models/{greenhouse.flower}/history"
    last = greenhouse.client.get(history).json()["routings"][-1]
    assert (last["actor"], last["champion"]) == ("guard", ours)
    greenhouse.wait_for(lambda: "answers its golden rows otherwise" in greenhouse.told())
    with pytest.raises(ArtifactError, match="another model now"):
        worker.ask({}, "")


def test_code_needs_two_peoples_leave_and_is_not_run_without(
    greenhouse: Greenhouse, tmp_path: Path
) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return Path.touch, (tmp_path / "ran",)

    name = f"trap-{uuid4().hex[:8]}"
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.pkl").write_bytes(pickle.dumps(Trap()))
    (folder / "MLmodel").write_text(
        "flavors:\n  python_function: {loader_module: mlflow.sklearn, model_path: model.pkl}\n"
        "  sklearn: {pickled_model: model.pkl, serialization_format: pickle}\n"
    )
    address = greenhouse.register(name, folder)
    closed = greenhouse.settings.model_copy(update={"models": {greenhouse.flower: Policy()}})
    for settings, allow, lacking in (
        (closed, False, ("--allow-code", "formats")),
        (closed, True, ("formats",)),
        (greenhouse.settings, False, ("--allow-code",)),
    ):
        with pytest.raises(Refused) as caught:
            greenhouse.adopt(address, settings=settings, allow_code=allow)
        assert "mlflow.sklearn, written by pickle" in caught.value.message
        assert all(word in caught.value.remedy for word in lacking)
    assert not (tmp_path / "ran").exists()
