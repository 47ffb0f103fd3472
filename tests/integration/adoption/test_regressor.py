"""A regressor that somebody else saved, in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from sklearn.tree import DecisionTreeRegressor

from models.pyfunc import Pyfunc
from registry.packed import pack
from registry.worker import Worker

if TYPE_CHECKING:
    from tests.integration.adoption.conftest import Grow, Rows


def prices_of(frame: pd.DataFrame) -> list[float]:
    return [float(value) for value in 3 * frame["size"] + 0.5 * frame["petals"]]


def test_a_regressor_answers_as_the_one_that_was_saved(
    tmp_path: Path, plants: Grow, as_rows: Rows
) -> None:
    frame = plants(0)[["size", "petals"]]
    tree = DecisionTreeRegressor(random_state=0).fit(frame, prices_of(frame))
    signature = infer_signature(frame, np.array(prices_of(frame)))
    mlflow.sklearn.save_model(
        tree,
        tmp_path / "m",
        signature=signature,
        serialization_format="cloudpickle",
        pip_requirements=["scikit-learn"],
    )
    worker = Worker("price:1", pack(tmp_path / "m", 10_000_000))
    options = {"kinds": {"size": "float64", "petals": "int64"}}
    learner = Pyfunc.from_data(as_rows(frame), prices_of(frame), options)
    asked = plants(2)[["size", "petals"]][:200]
    outputs = learner.predict(worker, learner.encode(as_rows(asked)))
    assert np.allclose(outputs[:, 0], tree.predict(asked), rtol=1e-6)
    worker.close()
