"""A language model through the pipeline and a retrain, on a real MLflow, Prefect and database."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

from flows.pipeline import pipeline
from flows.retrain import retrain
from models import read_dataset
from registry import LabelItem, PredictionRecord, log_predictions, record_labels, transaction

if TYPE_CHECKING:
    from tests.integration.flows.conftest import Site

CHANGED = datetime(2026, 11, 1, 12, tzinfo=UTC)
PYTHON = {
    "learner": "models.code:Code",
    "learner_config": {"context": 32, "width": 32, "layers": 1, "horizon": 4},
    "data": "builtin:stdlib/json",
    "epochs": 6,
    "gates": {"min_accuracy": 0.2},
    "retrain": {"cool_down_seconds": 0.0, "epochs": 12, "memory_rows": 400},
}


def log_source(site: Site, package: str, count: int) -> None:
    """Log texts that were answered, with what truly came after them."""
    data = read_dataset(f"builtin:stdlib/{package}", "")
    records = [
        PredictionRecord(
            id=str(uuid.uuid4()),
            model=site.model,
            version=1,
            generation=1,
            arm="champion",
            entity="",
            at=CHANGED + timedelta(milliseconds=10 * number),
            row=data.rows[number],
            output=np.zeros(11, dtype=np.float32),
            answer={"prediction": "    ", "confidence": 0.5, "bits_per_byte": 4.0},
        )
        for number in range(count)
    ]
    labels = [
        LabelItem(record.id, label) for record, label in zip(records, data.labels, strict=False)
    ]
    with transaction(site.maker) as session:
        log_predictions(session, records)
        record_labels(session, labels, CHANGED + timedelta(minutes=1))


@pytest.mark.parametrize("site", [PYTHON], indirect=True)
def test_another_style_is_learnt_with_replay_and_bits_are_told_of_both(site: Site) -> None:
    first = pipeline(site.model)
    assert first["place"] == "champion", first["reason"]
    log_source(site, "encodings.cp037,encodings.cp1250", 250)

    answer = retrain(site.model, site.open_incident(CHANGED).id, "request")

    run = site.mlflow("runs/get", run_id=answer["run_id"])["run"]["data"]
    found = {item["key"]: item["value"] for item in run["metrics"]}
    assert answer["place"] == "challenger", answer["reason"]
    assert found["gain"] > 0.1
    assert found["forgetting"] < 0.03
    # Untaught tables of characters need more than five bits a byte.
    assert found["regime_1_bits_per_byte"] == found["bits_per_byte"] < 3.5
    assert found["regime_0_bits_per_byte"] != found["bits_per_byte"]
