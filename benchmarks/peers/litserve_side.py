"""LitServe: one worker behind its HTTP server, batches of what is queued, by ZeroMQ."""

from __future__ import annotations

import litserve
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.digits import BATCH_SECONDS, MOST, DigitsModel, Start, asked

Row = NDArray[np.float32]


class DigitsApi(litserve.LitAPI):  # type: ignore[misc] # only its own environment has LitServe
    """The digits model as LitServe has it: decode, batch, predict, unbatch, encode."""

    def __init__(self, start: Start) -> None:
        super().__init__(max_batch_size=MOST, batch_timeout=BATCH_SECONDS)
        self._start = start

    def setup(self, _device: str) -> None:
        """Load the weights, in the worker."""
        self._model = DigitsModel(self._start.folder)

    def decode_request(self, request: dict[str, list[float]]) -> Row:
        """One row."""
        return np.array(request["row"], dtype=np.float32)

    def batch(self, inputs: list[Row]) -> Row:
        """Rows to one array."""
        return np.stack(inputs)

    def predict(self, x: Row) -> list[int]:
        """The class of each row."""
        return self._model.classes(x)

    def unbatch(self, output: list[int]) -> list[int]:
        """One class a request."""
        return output

    def encode_response(self, output: int) -> dict[str, int]:
        """As JSON."""
        return {"prediction": output}


def main() -> None:
    """Serve until ended."""
    start = asked()
    server = litserve.LitServer(
        DigitsApi(start), accelerator="cpu", workers_per_device=1, fast_queue=True
    )
    server.run(
        host="127.0.0.1",
        port=start.port,
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
