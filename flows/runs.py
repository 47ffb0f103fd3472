"""MLflow runs: what was tried, with its figures and files, findable by the key of its work.

Through MLflow's REST API: importing its own client costs a flow run two seconds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from homeostat.errors import ArtifactError, Unavailable
from registry.mlflow_api import MlflowApi, MlflowRefused
from registry.versions import DIGEST_TAG, WORK_TAG

SUMMARY_FILE = "summary.json"  # what a run that is found again is told by
VERDICT_FILE = "verdict.json"
LINEAGE_FILE = "lineage.json"
ROWS_FILE = "rows.json"  # the ids of the predictions that a retrain learnt
MAX_SUMMARY_BYTES = 4 * 1024 * 1024
MAX_PARAM = 6000  # characters that MLflow keeps of a parameter's value
MAX_METRICS = 900  # of one call; MLflow takes 1,000 items of all kinds
TIMEOUT = 10.0  # seconds; longer than a gateway may wait, for flows are not in a hurry


@dataclass(frozen=True)
class Tried:
    """A finished run that holds a candidate.

    Args:
        run_id: Of MLflow.
        digest: Of the candidate's `model/`.
        summary: `summary.json`: plain JSON.
    """

    run_id: str
    digest: str
    summary: dict[str, Any]


class Runs:
    """The runs of one MLflow server, one experiment for each model.

    Every method raises Unavailable when MLflow is away, and MlflowRefused when it says no.

    Args:
        url: Of the server.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._api = MlflowApi(url, timeout=TIMEOUT)

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def find(self, model: str, key: str) -> Tried | None:
        """The finished run of a piece of work, if it got so far before.

        Raises:
            ArtifactError: its summary is not what was written there.
        """
        for run in self._of_work(model, key):
            if run["info"]["status"] == "FINISHED":
                run_id = str(run["info"]["run_id"])
                return Tried(run_id, _tags(run)[DIGEST_TAG], self._summary(run_id))
        return None

    def keep(
        self,
        model: str,
        key: str,
        *,
        name: str,
        folder: Path,
        digest: str,
        documents: Mapping[str, str],
        params: Mapping[str, object],
        metrics: Mapping[str, float],
        curves: Mapping[str, Sequence[float]],
        tags: Mapping[str, str],
    ) -> Tried:
        """Log a candidate as one finished run.

        A run of the same work that was cut off before it finished is closed as killed: no
        version is made from it.

        Args:
            model: The registered model's name: also the experiment's.
            key: Of the work.
            name: Of the run, for people.
            folder: Holds `model/` and `replay/`.
            digest: Of `model/`.
            documents: Texts by file name, `summary.json` among them: what `find` answers with.
            params: What it was made with.
            metrics: Its figures.
            curves: Its figures by epoch.
            tags: Others than the key and the digest.
        """
        for stale in self._of_work(model, key):
            if stale["info"]["status"] == "RUNNING":
                self._end(stale["info"]["run_id"], "KILLED")
        run = self._begin(model, name, {**tags, WORK_TAG: key, DIGEST_TAG: digest})
        run_id = str(run["info"]["run_id"])
        self._log(run_id, params, metrics, curves)
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        files |= {name: text.encode() for name, text in documents.items()}
        self._api.upload(run, files)
        self._end(run_id, "FINISHED")
        return Tried(run_id, digest, json.loads(documents[SUMMARY_FILE]))

    def keep_report(self, model: str, name: str, files: Sequence[Path]) -> str:
        """Log pages and pictures as a run of the model, below `report/`; its id is answered."""
        run = self._begin(model, name, {"homeostat.flow": "report"})
        self._api.upload(run, {f"report/{path.name}": path.read_bytes() for path in files})
        self._end(run["info"]["run_id"], "FINISHED")
        return str(run["info"]["run_id"])

    def version_page(self, model: str, version: int) -> str:
        """The address of a version's page in MLflow."""
        return f"{self._public}/#/models/{quote(model, safe='')}/versions/{version}"

    def run_page(self, model: str, run_id: str) -> str:
        """The address of a run's page in MLflow."""
        return f"{self._public}/#/experiments/{self._experiment(model)}/runs/{run_id}"

    @property
    def _public(self) -> str:
        """The server's address without the password that it may carry."""
        parts = urlsplit(self._url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def _experiment(self, model: str) -> str:
        try:
            return self._known_experiment(model)
        except MlflowRefused as error:
            if not error.missing:
                raise
        try:
            return str(self._api.post("experiments/create", {"name": model})["experiment_id"])
        except (MlflowRefused, Unavailable):
            return self._known_experiment(model)  # another flow may have been quicker

    def _known_experiment(self, model: str) -> str:
        found = self._api.get("experiments/get-by-name", experiment_name=model)
        return str(found["experiment"]["experiment_id"])

    def _of_work(self, model: str, key: str) -> list[dict[str, Any]]:
        """The runs of a piece of work, the newest first."""
        query = {
            "experiment_ids": [self._experiment(model)],
            "filter": f"tags.`{WORK_TAG}` = '{key}'",
            "order_by": ["attributes.start_time DESC"],
            "max_results": 100,
        }
        return list(self._api.post("runs/search", query).get("runs", []))

    def _begin(self, model: str, name: str, tags: Mapping[str, str]) -> dict[str, Any]:
        every = {"mlflow.source.name": "homeostat", "mlflow.user": "homeostat", **tags}
        body = {
            "experiment_id": self._experiment(model),
            "run_name": name,
            "start_time": _now(),
            "tags": [{"key": key, "value": value} for key, value in every.items()],
        }
        return dict(self._api.post("runs/create", body)["run"])

    def _end(self, run_id: str, status: str) -> None:
        self._api.post("runs/update", {"run_id": run_id, "status": status, "end_time": _now()})

    def _log(
        self,
        run_id: str,
        params: Mapping[str, object],
        metrics: Mapping[str, float],
        curves: Mapping[str, Sequence[float]],
    ) -> None:
        points = [(name, value, 0) for name, value in metrics.items()]
        for name, curve in curves.items():
            points += [(name, value, epoch) for epoch, value in enumerate(curve)]
        body = {
            "run_id": run_id,
            "metrics": [
                {"key": name, "value": float(value), "timestamp": _now(), "step": step}
                for name, value, step in points[:MAX_METRICS]
            ],
            "params": [
                {"key": name, "value": str(value)[:MAX_PARAM]} for name, value in params.items()
            ],
        }
        self._api.post("runs/log-batch", body)

    def _summary(self, run_id: str) -> dict[str, Any]:
        content = self._api.download(run_id, SUMMARY_FILE, MAX_SUMMARY_BYTES)
        try:
            summary = json.loads(content)
        except ValueError:
            summary = None
        if not isinstance(summary, dict) or summary.get("schema") != 1:
            raise ArtifactError(
                f"{SUMMARY_FILE} of the MLflow run {run_id} is not what was written there.",
                remedy="Delete that run in MLflow and start the work again.",
                run=run_id,
            )
        return summary


def as_text(value: object) -> str:
    """JSON as it lies beside a version, for people too: one value a line, no NaN."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def _tags(run: Mapping[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}


def _now() -> int:
    """Milliseconds since 1970, as MLflow counts."""
    return int(time.time() * 1000)
