"""MLServer: the Open Inference Protocol, a custom runtime, its adaptive batching on.

No parallel workers: on one core a second process costs more than it brings.
"""

from __future__ import annotations

import json
from pathlib import Path

import mlserver
import numpy as np
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers.digits import BATCH_SECONDS, MOST, DigitsModel, asked, become
from benchmarks.ports import free_port


class DigitsRuntime(mlserver.MLModel):  # type: ignore[misc] # only its own environment has MLServer
    """The digits model as MLServer has it."""

    async def load(self) -> bool:
        """Load the weights."""
        self._model = DigitsModel(Path(self.settings.parameters.uri))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The class of each row."""
        rows = NumpyCodec.decode_input(payload.inputs[0])
        classes = self._model.classes(np.asarray(rows, dtype=np.float32))
        output = NumpyCodec.encode_output("class", np.array(classes))
        return InferenceResponse(model_name=self.name, outputs=[output])


def main() -> None:
    """Write the settings and become the server."""
    start = asked()
    ports = {"http_port": start.port, "grpc_port": free_port(), "metrics_port": free_port()}
    settings = {"host": "127.0.0.1", "debug": False, "parallel_workers": 0} | ports
    model = {
        "name": "digits",
        "implementation": "benchmarks.peers.mlserver_side.DigitsRuntime",
        "max_batch_size": MOST,
        "max_batch_time": BATCH_SECONDS,
        "parameters": {"uri": str(start.folder)},
    }
    (start.work / "settings.json").write_text(json.dumps(settings))
    (start.work / "model-settings.json").write_text(json.dumps(model))
    become("mlserver", "start", str(start.work))


if __name__ == "__main__":
    main()
