"""A model that somebody else logged with MLflow, adopted and served by a gateway of ours."""

from __future__ import annotations

import json
import shutil
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

from flows.adoption import adopt
from flows.site import open_site
from homeostat.clock import utc_now
from homeostat.policy import GatePolicy, MonitorPolicy, Policy
from homeostat.settings import Settings
from models.data import Dataset
from registry.worker import Worker
from serving.app import create_app
from serving.gateway import Gateway

AUTH = {"Authorization": "Bearer the-token"}
SOON = MonitorPolicy(budget_predictions=1000, budget_labels=1000)
ROWS = 600
Grow = Callable[[int], pd.DataFrame]
Rows = Callable[[pd.DataFrame], list[dict[str, Any]]]


def grow(seed: int) -> pd.DataFrame:
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


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", double_precision=15))
    return found


def classifier() -> Any:  # noqa: ANN401 - scikit-learn ships no types
    texts = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["colour"]), remainder="passthrough"
    )
    return make_pipeline(texts, LogisticRegression(C=100, max_iter=1000)).fit(
        grow(0), kinds_of(grow(0))
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
        return self.client.post(f"/v1/models/{self.flower}/predict", json={"rows": records(frame)})

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

    def register(self, name: str, folder: Path) -> str:
        """The address of a model's folder that somebody logs and registers."""
        return register(self.settings.mlflow_url, name, folder)

    def register_moody(self, mood: Path, folder: Path) -> str:
        """The address of a classifier whose answers depend on what a file says."""
        return register_moody(self.settings.mlflow_url, mood, folder)

    def adopt(
        self, address: str, *, settings: Settings | None = None, allow_code: bool = True
    ) -> dict[str, Any]:
        with open_site(settings or self.settings) as site:
            return adopt(
                site,
                self.flower,
                address,
                self.reference(),
                utc_now(),
                source="reference.parquet",
                allow_code=allow_code,
            )

    @staticmethod
    def reference() -> Dataset:
        """Rows of plants and their kinds, which the version has not seen."""
        frame = grow(1)
        return Dataset.of(records(frame), kinds_of(frame))

    @staticmethod
    def wait_for(condition: Callable[[], object], seconds: float = 90.0) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return
            time.sleep(0.05)
        raise AssertionError("it did not come true in time")


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
        signature=infer_signature(grow(0), kinds_of(grow(0))),
        pip_requirements=["scikit-learn"],
    )
    return register(url, f"moody-{uuid4().hex[:8]}", folder)


@pytest.fixture(scope="session")
def plants() -> Grow:
    """Grows plants from a seed."""
    return grow


@pytest.fixture(scope="session")
def as_rows() -> Rows:
    """What a caller sends of a frame."""
    return records


@pytest.fixture(scope="module")
def greenhouse(
    mlflow_server: Any,  # noqa: ANN401 - of conftest
    migrated_sqlite: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Greenhouse]:
    """It stays as each test leaves it to the next one."""
    state = tmp_path_factory.mktemp("greenhouse")
    shutil.copy(migrated_sqlite, state / "lifecycle.db")
    flower, original = f"flower-{uuid4().hex[:8]}", classifier()
    folder = tmp_path_factory.mktemp("logged") / "model"
    signature = infer_signature(grow(0), kinds_of(grow(0)))
    mlflow.sklearn.save_model(
        original,
        folder,
        signature=signature,
        serialization_format="cloudpickle",
        pip_requirements=["scikit-learn"],
    )
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
        house.wait_for(lambda: gateway.fleet.get(flower) is not None)
        yield house
