"""Versions that somebody else logged with MLflow: adopted, served apart, watched, rolled back."""

from __future__ import annotations

import getpass
import json
import os
import pickle
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from mlflow import MlflowClient
from mlflow.models import infer_signature
from pydantic import SecretStr
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeRegressor

from flows.adoption import adopt, judge_and_log
from flows.candidates import register_candidate, settle
from flows.champions import fetch
from flows.learning import train_afresh
from flows.lessons import first_lesson
from flows.origin import Origin
from flows.reproduce import reproduce
from flows.site import open_site
from homeostat.clock import utc_now
from homeostat.errors import ArtifactError, Refused
from homeostat.policy import GatePolicy, MonitorPolicy, Policy
from homeostat.settings import Settings
from models.data import Dataset
from models.pyfunc import Pyfunc
from registry.lineage import parents
from registry.lineage_records import find_lineage
from registry.packed import pack
from registry.worker import Worker
from serving.app import create_app
from serving.gateway import Gateway

AUTH = {"Authorization": "Bearer the-token"}
SOON = MonitorPolicy(budget_predictions=1000, budget_labels=1000)
ROWS = 600
AS_THEY_DO: dict[str, Any] = {
    "serialization_format": "cloudpickle",
    "pip_requirements": ["scikit-learn"],
}


def plants(seed: int) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "size": draw.normal(size=ROWS),
            "petals": draw.integers(3, 9, ROWS),
            "colour": draw.choice(["blue", "red", "white"], ROWS),
        }
    )


def kinds_of(frame: pd.DataFrame) -> list[str]:
    rosy = frame["size"] + (frame["colour"] == "red") - 0.2 * (frame["petals"] - 5) > 0.3
    return ["rose" if yes else "daisy" for yes in rosy]


def prices_of(frame: pd.DataFrame) -> list[float]:
    return [float(value) for value in 3 * frame["size"] + 0.5 * frame["petals"]]


def as_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", double_precision=15))
    return found


def dataset(truths: Callable[[pd.DataFrame], list[Any]]) -> Dataset:
    frame = plants(1)
    return Dataset.of(as_rows(frame), truths(frame))


def classifier() -> Any:  # noqa: ANN401 - scikit-learn ships no types
    texts = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["colour"]), remainder="passthrough"
    )
    return make_pipeline(texts, LogisticRegression(C=100, max_iter=1000)).fit(
        plants(0), kinds_of(plants(0))
    )


@dataclass
class Greenhouse:
    """An installation with an adopted model behind a gateway."""

    settings: Settings
    client: TestClient
    gateway: Gateway
    flower: str
    address: str
    original: Any

    @property
    def worker(self) -> Worker:
        """The process of the champion."""
        split = self.gateway.fleet.serving(self.flower)
        assert isinstance(split.champion.module, Worker)
        return split.champion.module

    def predict(self, frame: pd.DataFrame) -> Any:  # noqa: ANN401 - an httpx answer
        return self.client.post(f"/v1/models/{self.flower}/predict", json={"rows": as_rows(frame)})

    def said(self, frame: pd.DataFrame) -> list[Any]:
        answer = self.predict(frame)
        assert answer.status_code == 200, answer.text
        return [one["prediction"] for one in answer.json()["predictions"]]

    def routing(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"/v1/models/{self.flower}").json()
        return dict(found["routing"])

    def move(self, act: str, **body: object) -> None:
        answer = self.client.post(f"/v1/models/{self.flower}/{act}", json=body)
        assert answer.status_code == 200, answer.text

    def told(self) -> str:
        """What on-call was told, all of it."""
        query = f"/v1/incidents?every=true&model={self.flower}"
        found = self.client.get(query).json()["incidents"]
        return " ".join(event["text"] for one in found for event in one["events"])

    def adopt(self, address: str) -> dict[str, Any]:
        with open_site(self.settings) as site:
            return adopt(
                site,
                self.flower,
                address,
                dataset(kinds_of),
                utc_now(),
                source="reference.parquet",
                allow_code=True,
            )


def register(url: str, name: str, folder: Path) -> str:
    """Somebody logs and registers a model's folder, as they do everywhere."""
    page = MlflowClient(url)
    run = page.create_run(page.create_experiment(name)).info
    page.log_artifacts(run.run_id, str(folder), "model")
    page.create_registered_model(name)
    made = page.create_model_version(name, f"{run.artifact_uri}/model", run.run_id)
    return f"models:/{name}/{made.version}"


def register_moody(url: str, mood: Path, folder: Path) -> str:
    """A classifier that answers the other way round once a file of the machine says so."""

    class Moody(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
        def __init__(self, inner: Any, path: str) -> None:  # noqa: ANN401
            self.inner, self.path = inner, path
            self.other = {"rose": "daisy", "daisy": "rose"}

        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:  # noqa: ANN401, ARG002
            said = self.inner.predict(model_input).tolist()
            with open(self.path) as file:  # noqa: PTH123 - as somebody writes it
                good = file.read() == "good"
            return said if good else [self.other[one] for one in said]

    mlflow.pyfunc.save_model(
        folder,
        python_model=Moody(classifier(), str(mood)),
        signature=infer_signature(plants(0), kinds_of(plants(0))),
        pip_requirements=["scikit-learn"],
    )
    return register(url, f"moody-{uuid4().hex[:8]}", folder)


def train_table(greenhouse: Greenhouse) -> int:
    """A version of ours, trained on the same rows and judged beside the adopted champion."""
    name, policy = greenhouse.flower, greenhouse.settings.policy(greenhouse.flower)
    rows, now = dataset(kinds_of), utc_now()
    with open_site(greenhouse.settings) as site:
        champion = fetch(site, name, policy)
        trained = train_afresh(first_lesson(rows, policy), policy, champion)
        origin = Origin("pipeline", name, "ours", "Trained by a test.", now, "reference.parquet")
        tried = judge_and_log(site, policy, origin, trained, champion)
        version = register_candidate(site, name, origin.key, tried)
        assert settle(site, policy, name, version, tried, now) == "challenger", tried.summary
    return version


def wait_for(condition: Callable[[], object], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come true in time")


@pytest.fixture
def mood() -> Iterator[Path]:
    """A file that every user may read."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "mood"
        path.write_text("good")
        yield path


@pytest.fixture(scope="module")
def greenhouse(
    mlflow_server: Any,  # noqa: ANN401 - of conftest
    migrated_sqlite: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Greenhouse]:
    state = tmp_path_factory.mktemp("greenhouse")
    shutil.copy(migrated_sqlite, state / "lifecycle.db")
    flower, original = f"flower-{uuid4().hex[:8]}", classifier()
    folder = tmp_path_factory.mktemp("logged") / "model"
    signature = infer_signature(plants(0), kinds_of(plants(0)))
    mlflow.sklearn.save_model(original, folder, signature=signature, **AS_THEY_DO)
    address = register(mlflow_server.url, flower, folder)
    policy = Policy(
        learner="table",
        epochs=60,
        formats=("torch", "pyfunc"),
        monitor=SOON,
        gates=GatePolicy(min_accuracy=0.7, forgetting=0.3, class_budget=1.0),
    )
    settings = Settings(
        state_dir=state,
        token=SecretStr("the-token"),
        mlflow_url=mlflow_server.url,
        prefect_url="http://127.0.0.1:9/api",
        poll_seconds=0.2,
        models={flower: policy},
    )
    gateway = Gateway(settings)
    with TestClient(create_app(settings, gateway), headers=AUTH) as client:
        house = Greenhouse(settings, client, gateway, flower, address, original)
        done = house.adopt(address)
        assert done["place"] == "champion", done
        assert done["accuracy"] > 0.7
        wait_for(lambda: gateway.fleet.get(flower) is not None)
        yield house


def test_an_adopted_version_answers_as_the_one_that_was_logged(greenhouse: Greenhouse) -> None:
    frame = plants(2)[:200]
    assert greenhouse.said(frame) == greenhouse.original.predict(frame).tolist()
    new = frame[:1].assign(colour="ultraviolet")  # a text that nobody has seen is passed on
    assert greenhouse.said(new) == greenhouse.original.predict(new).tolist()


def test_an_adopted_version_speaks_the_open_protocol_by_its_schema(greenhouse: Greenhouse) -> None:
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


def test_a_regressor_answers_as_the_one_that_was_saved(tmp_path: Path) -> None:
    frame = plants(0)[["size", "petals"]]
    tree = DecisionTreeRegressor(random_state=0).fit(frame, prices_of(frame))
    signature = infer_signature(frame, np.array(prices_of(frame)))
    mlflow.sklearn.save_model(tree, tmp_path / "m", signature=signature, **AS_THEY_DO)
    worker = Worker("price:1", pack(tmp_path / "m", 10_000_000))
    options = {"kinds": {"size": "float64", "petals": "int64"}}
    learner = Pyfunc.from_data(as_rows(frame), prices_of(frame), options)
    asked = plants(2)[["size", "petals"]][:200]
    outputs = learner.predict(worker, learner.encode(as_rows(asked)))
    assert np.allclose(outputs[:, 0], tree.predict(asked), rtol=1e-6)
    worker.close()


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


def test_a_row_that_it_cannot_take_is_refused_before_it_is_asked(greenhouse: Greenhouse) -> None:
    row = as_rows(plants(2)[:1])[0]
    for bad in ({"size": "big"}, {"petals": 1.5}, {"petals": None}, {"colour": 7}, {"more": 1}):
        answer = greenhouse.client.post(
            f"/v1/models/{greenhouse.flower}/predict", json={"rows": [row | bad]}
        )
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-row")


def test_its_process_knows_nothing_of_ours_and_comes_back_when_it_is_killed(
    greenhouse: Greenhouse,
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
    wait_for(answers)
    assert codes <= {(200, None), (500, "learner-failed"), (503, "unavailable")}
    assert (503, "unavailable") in codes
    assert worker.pid != first


def test_labels_and_inputs_of_an_adopted_version_raise_alarms(greenhouse: Greenhouse) -> None:
    moved = plants(5).assign(size=lambda frame: frame["size"] + 2)
    answer = greenhouse.predict(moved).json()
    wrong = {"rose": "daisy", "daisy": "rose"}
    labels = [{"id": one["id"], "label": wrong[one["prediction"]]} for one in answer["predictions"]]
    for start in range(0, len(labels), 100):
        said = greenhouse.client.post("/v1/labels", json={"labels": labels[start : start + 100]})
        assert said.status_code == 200, said.text
    wait_for(lambda: "mean loss" in greenhouse.told())
    wait_for(lambda: "inputs moved" in greenhouse.told())


def test_what_mlflow_lost_of_an_adopted_version_is_restored_from_its_pinned_copy(
    greenhouse: Greenhouse,
) -> None:
    lost, process = greenhouse.routing()["champion"], greenhouse.worker.pid
    digest = greenhouse.routing()["digest"]
    pins = f"/v1/models/{greenhouse.flower}/pins"

    def pinned() -> bool:
        (one,) = greenhouse.client.get(pins, params={"verify": True}).json()["pins"]
        return bool(one["digest"] == digest and one["whole"])

    wait_for(pinned)
    page = MlflowClient(greenhouse.settings.mlflow_url)
    page.delete_model_version(greenhouse.flower, str(lost))
    frame = plants(4)[:20]
    expected = greenhouse.original.predict(frame).tolist()
    assert greenhouse.said(frame) == expected
    wait_for(lambda: f"Version {lost} of {greenhouse.flower}" in greenhouse.told())
    greenhouse.move("restore", version=lost, reason="it serves")
    number = greenhouse.routing()["champion"]
    assert number != lost
    again = page.get_model_version(greenhouse.flower, str(number))
    assert again.tags["homeostat.digest"] == digest
    assert greenhouse.said(frame) == expected
    assert greenhouse.worker.pid == process  # what is loaded is the same
    with open_site(greenhouse.settings) as site, site.session() as session:
        assert find_lineage(session, greenhouse.flower, number).digest == digest


def test_a_version_of_ours_and_an_adopted_one_take_turns(greenhouse: Greenhouse) -> None:
    adopted = greenhouse.routing()["champion"]
    ours = train_table(greenhouse)
    wait_for(lambda: greenhouse.routing()["challenger"] == ours)
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
    greenhouse: Greenhouse, mood: Path, tmp_path: Path
) -> None:
    """Its golden rows show what it became before any caller does."""
    ours = greenhouse.routing()["champion"]
    url = greenhouse.settings.mlflow_url
    done = greenhouse.adopt(register_moody(url, mood, tmp_path / "model"))
    assert (done["place"], done["passed"]) == ("challenger", True), done
    wait_for(lambda: greenhouse.routing()["challenger"] == done["version"])
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

    wait_for(taken_out)
    history = f"/v1/models/{greenhouse.flower}/history"
    last = greenhouse.client.get(history).json()["routings"][-1]
    assert (last["actor"], last["champion"]) == ("guard", ours)
    wait_for(lambda: "answers its golden rows otherwise" in greenhouse.told())
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
    address = register(greenhouse.settings.mlflow_url, name, folder)
    closed = greenhouse.settings.model_copy(update={"models": {greenhouse.flower: Policy()}})
    for settings, allow, lacking in (
        (closed, False, ("--allow-code", "formats")),
        (closed, True, ("formats",)),
        (greenhouse.settings, False, ("--allow-code",)),
    ):
        with open_site(settings) as site, pytest.raises(Refused) as caught:
            adopt(
                site,
                greenhouse.flower,
                address,
                dataset(kinds_of),
                utc_now(),
                source="reference.parquet",
                allow_code=allow,
            )
        assert "mlflow.sklearn, written by pickle" in caught.value.message
        assert all(word in caught.value.remedy for word in lacking)
    assert not (tmp_path / "ran").exists()
