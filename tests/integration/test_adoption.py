"""Versions that somebody else logged with MLflow: adopted, served apart, watched, rolled back."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

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

from flows.adoption import adopt
from flows.site import open_site
from homeostat.clock import utc_now
from homeostat.errors import Refused
from homeostat.policy import GatePolicy, MonitorPolicy, Policy
from homeostat.settings import Settings
from models.data import Dataset
from registry.worker import Worker
from serving.app import create_app
from serving.gateway import Gateway

AUTH = {"Authorization": "Bearer the-token"}
SOON = MonitorPolicy(budget_predictions=1000, budget_labels=1000)
ROWS = 600


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
    """An installation with two adopted models behind a gateway."""

    settings: Settings
    client: TestClient
    gateway: Gateway
    flower: str
    price: str
    originals: dict[str, Any]

    def predict(self, model: str, frame: pd.DataFrame) -> Any:  # noqa: ANN401 - an httpx answer
        return self.client.post(f"/v1/models/{model}/predict", json={"rows": as_rows(frame)})

    def said(self, model: str, frame: pd.DataFrame) -> list[Any]:
        answer = self.predict(model, frame)
        assert answer.status_code == 200, answer.text
        return [one["prediction"] for one in answer.json()["predictions"]]


def log(url: str, name: str, model: Any, **more: Any) -> str:  # noqa: ANN401
    """Somebody logs a model, as they do everywhere."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(url)
    try:
        info = mlflow.sklearn.log_model(
            model,
            name="model",
            registered_model_name=name,
            serialization_format="cloudpickle",
            pip_requirements=["scikit-learn"],
            **more,
        )
    finally:
        mlflow.set_tracking_uri(before)
    return f"models:/{name}/{info.registered_model_version}"


def wait_for(condition: Callable[[], object], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come true in time")


@pytest.fixture(scope="module")
def addresses(mlflow_server: Any) -> dict[str, str]:  # noqa: ANN401 - of conftest
    """What was logged: a classifier with a signature, a regressor, both as cloudpickle."""
    url, tail = mlflow_server.url, uuid4().hex[:8]
    frame = plants(0)
    flowers, prices = (
        classifier(),
        DecisionTreeRegressor(random_state=0).fit(plants(0)[["size", "petals"]], prices_of(frame)),
    )
    return {
        "flower": log(
            url, f"flower-{tail}", flowers, signature=infer_signature(frame, kinds_of(frame))
        ),
        "price": log(
            url,
            f"price-{tail}",
            prices,
            signature=infer_signature(frame[["size", "petals"]], np.array(prices_of(frame))),
        ),
    }


@pytest.fixture(scope="module")
def greenhouse(
    mlflow_server: Any,  # noqa: ANN401 - of conftest
    addresses: dict[str, str],
    migrated_sqlite: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Greenhouse]:
    state = tmp_path_factory.mktemp("greenhouse")
    shutil.copy(migrated_sqlite, state / "lifecycle.db")
    names = {kind: address.split("/")[1] for kind, address in addresses.items()}
    policy = Policy(formats=("torch", "pyfunc"), monitor=SOON, gates=GatePolicy(min_accuracy=0.7))
    settings = Settings(
        state_dir=state,
        token=SecretStr("the-token"),
        mlflow_url=mlflow_server.url,
        prefect_url="http://127.0.0.1:9/api",
        poll_seconds=0.2,
        models=dict.fromkeys(names.values(), policy),
    )
    with open_site(settings) as site:
        for kind, truths in (("flower", kinds_of), ("price", prices_of)):
            done = adopt(
                site,
                names[kind],
                addresses[kind],
                dataset(truths),
                utc_now(),
                source="reference.parquet",
                allow_code=True,
            )
            assert done["place"] == "champion", done
            assert done["accuracy"] > 0.7
    gateway = Gateway(settings)
    originals = {
        names["flower"]: classifier(),
        names["price"]: DecisionTreeRegressor(random_state=0).fit(
            plants(0)[["size", "petals"]], prices_of(plants(0))
        ),
    }
    with TestClient(create_app(settings, gateway), headers=AUTH) as client:
        yield Greenhouse(settings, client, gateway, names["flower"], names["price"], originals)


def test_an_adopted_version_answers_as_the_one_that_was_logged(greenhouse: Greenhouse) -> None:
    frame = plants(2)[:200]
    expected = greenhouse.originals[greenhouse.flower].predict(frame).tolist()
    assert greenhouse.said(greenhouse.flower, frame) == expected
    narrow = frame[["size", "petals"]]
    prices = greenhouse.originals[greenhouse.price].predict(narrow)
    assert np.allclose(greenhouse.said(greenhouse.price, narrow), prices, rtol=1e-6)
    new = frame[:1].assign(colour="ultraviolet")  # a text that nobody has seen is passed on
    assert (
        greenhouse.said(greenhouse.flower, new)
        == greenhouse.originals[greenhouse.flower].predict(new).tolist()
    )


def test_its_page_says_what_it_is_and_where_it_comes_from(
    greenhouse: Greenhouse, addresses: dict[str, str]
) -> None:
    page = MlflowClient(greenhouse.settings.mlflow_url)
    version = page.get_model_version(greenhouse.flower, "2")  # 1 is the one that was logged
    assert addresses["flower"] in str(version.description)
    assert "its maker's code may run" in version.tags["homeostat.scan"]
    assert version.tags["homeostat.digest"]


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
    split = greenhouse.gateway.fleet.get(greenhouse.flower)
    assert split is not None
    worker = split.champion.module
    assert isinstance(worker, Worker)
    frame = plants(3)[:5]
    expected = greenhouse.said(greenhouse.flower, frame)
    environment = Path(f"/proc/{worker.pid}/environ").read_bytes()
    assert b"HOMEOSTAT" not in environment
    assert b"the-token" not in environment
    first = worker.pid
    os.kill(first, 9)
    codes = set()

    def answers() -> bool:
        answer = greenhouse.predict(greenhouse.flower, frame)
        codes.add((answer.status_code, answer.json().get("code")))
        if answer.status_code != 200:
            return False
        assert [one["prediction"] for one in answer.json()["predictions"]] == expected
        return True

    started = time.monotonic()
    assert not answers()
    assert greenhouse.predict(greenhouse.price, frame[["size", "petals"]]).status_code == 200
    assert time.monotonic() - started < 5.0  # nobody waits for it
    wait_for(answers)
    assert codes <= {(200, None), (500, "learner-failed"), (503, "unavailable")}
    assert (503, "unavailable") in codes
    assert worker.pid != first


def test_a_second_version_is_tried_promoted_and_rolled_back(greenhouse: Greenhouse) -> None:
    again = log(
        greenhouse.settings.mlflow_url,
        f"other-{uuid4().hex[:8]}",
        classifier(),
        signature=infer_signature(plants(0), kinds_of(plants(0))),
        metadata={"team": "other"},
    )
    with open_site(greenhouse.settings) as site:
        done = adopt(
            site,
            greenhouse.flower,
            again,
            dataset(kinds_of),
            utc_now(),
            source="reference.parquet",
            allow_code=True,
        )
    assert (done["place"], done["passed"]) == ("challenger", True), done

    def routing() -> dict[str, Any]:
        found: dict[str, Any] = greenhouse.client.get(f"/v1/models/{greenhouse.flower}").json()
        return dict(found["routing"])

    wait_for(lambda: routing()["challenger"] == done["version"])
    first = routing()["champion"]
    frame = plants(4)[:20]
    expected = greenhouse.said(greenhouse.flower, frame)
    address = f"/v1/models/{greenhouse.flower}"
    body = {"version": done["version"], "reason": "it is newer"}
    answer = greenhouse.client.post(f"{address}/promote", json=body)
    assert answer.status_code == 200, answer.text
    assert greenhouse.predict(greenhouse.flower, frame).json()["version"] == done["version"]
    answer = greenhouse.client.post(f"{address}/rollback", json={"reason": "the old one is fine"})
    assert answer.status_code == 200, answer.text
    back = greenhouse.predict(greenhouse.flower, frame).json()
    assert back["version"] == first
    assert [one["prediction"] for one in back["predictions"]] == expected


def test_labels_and_inputs_of_an_adopted_version_raise_alarms(greenhouse: Greenhouse) -> None:
    moved = plants(5).assign(size=lambda frame: frame["size"] + 2)
    answer = greenhouse.predict(greenhouse.flower, moved).json()
    wrong = {"rose": "daisy", "daisy": "rose"}
    labels = [{"id": one["id"], "label": wrong[one["prediction"]]} for one in answer["predictions"]]
    for start in range(0, len(labels), 100):
        said = greenhouse.client.post("/v1/labels", json={"labels": labels[start : start + 100]})
        assert said.status_code == 200, said.text

    def kinds() -> set[str]:
        query = f"/v1/incidents?every=true&model={greenhouse.flower}"
        found = greenhouse.client.get(query).json()["incidents"]
        events = " ".join(event["text"] for one in found for event in one["events"])
        return {name for name in ("mean loss", "inputs moved") if name in events}

    wait_for(lambda: kinds() == {"mean loss", "inputs moved"})


def test_code_needs_two_peoples_leave_and_is_not_run_without(
    greenhouse: Greenhouse, tmp_path: Path
) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return Path.touch, (tmp_path / "ran",)

    page, name = MlflowClient(greenhouse.settings.mlflow_url), f"trap-{uuid4().hex[:8]}"
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.pkl").write_bytes(pickle.dumps(Trap()))
    (folder / "MLmodel").write_text(
        "flavors:\n  python_function: {loader_module: mlflow.sklearn, model_path: model.pkl}\n"
        "  sklearn: {pickled_model: model.pkl, serialization_format: pickle}\n"
    )
    run = page.create_run(page.create_experiment(name)).info
    page.log_artifacts(run.run_id, str(folder), "model")
    page.create_registered_model(name)
    page.create_model_version(name, f"{run.artifact_uri}/model", run.run_id)
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
                f"models:/{name}/1",
                dataset(kinds_of),
                utc_now(),
                source="reference.parquet",
                allow_code=allow,
            )
        assert "mlflow.sklearn, written by pickle" in caught.value.message
        assert all(word in caught.value.remedy for word in lacking)
    assert not (tmp_path / "ran").exists()
