"""BentoML: one worker, its adaptive batching on."""

from __future__ import annotations

import os
from pathlib import Path

import bentoml
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.digits import MOST, DigitsModel, asked, become

FOLDER = "DIGITS_FOLDER"


@bentoml.service(workers=1, traffic={"timeout": 60}, metrics={"enabled": True})
class Digits:
    """The digits model as BentoML has it."""

    def __init__(self) -> None:
        self._model = DigitsModel(Path(os.environ[FOLDER]))

    @bentoml.api(  # type: ignore[untyped-decorator] # untyped here: only its own environment has BentoML
        batchable=True, max_batch_size=MOST
    )
    def predict(self, rows: list[list[float]]) -> list[int]:
        """The class of each row."""
        images: NDArray[np.float32] = np.array(rows, dtype=np.float32)
        return self._model.classes(images)


def main() -> None:
    """Become its server."""
    start = asked()
    where = ("--host", "127.0.0.1", "--port", str(start.port))
    told = {FOLDER: str(start.folder), "BENTOML_HOME": str(start.work)}
    quiet = {"BENTOML_DO_NOT_TRACK": "True"}
    become("bentoml", "serve", "benchmarks.peers.bentoml_side:Digits", *where, **told, **quiet)


if __name__ == "__main__":
    main()
