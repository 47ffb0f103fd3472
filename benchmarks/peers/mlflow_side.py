"""MLflow's own scoring server, `mlflow models serve`: a pyfunc, one forward per request."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mlflow.models import ModelSignature
from mlflow.pyfunc import save_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray

from benchmarks.peers.digits import PIXELS, DigitsModel, asked, become


class DigitsPyfunc(PythonModel):
    """The digits model as MLflow has it."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights."""
        self._model = DigitsModel(Path(context.artifacts["version"]))

    def predict(
        self,
        context: object,  # noqa: ARG002 - MLflow looks at the names of parameters for what to give
        model_input: NDArray[np.float32],
        params: dict[str, object] | None = None,  # noqa: ARG002 - its base class takes them
    ) -> list[int]:
        """The class of each row."""
        return self._model.classes(model_input)


def main() -> None:
    """Save the model where it is not yet, and become its server."""
    from benchmarks.peers import mlflow_side  # by its name, as the server will find it

    start = asked()
    saved = start.work / "model"
    if not saved.exists():
        save_model(
            saved,
            python_model=mlflow_side.DigitsPyfunc(),
            artifacts={"version": str(start.folder)},
            signature=ModelSignature(
                Schema([TensorSpec(np.dtype(np.float32), (-1, PIXELS))]),
                Schema([TensorSpec(np.dtype(np.int64), (-1,))]),
            ),
            pip_requirements=[],
        )
    where = ("--host", "127.0.0.1", "--port", str(start.port), "--env-manager", "local")
    become("mlflow", "models", "serve", "-m", str(saved), *where)


if __name__ == "__main__":
    main()
