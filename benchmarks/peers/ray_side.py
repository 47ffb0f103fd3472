"""Ray Serve: one replica, batches by `serve.batch`, optimised for throughput.

That setting lets the replica answer on a port of its own, as it does behind a load balancer; asked
there it has a process and a hop less than behind Serve's own proxy, and is several times as quick.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["RAY_SERVE_THROUGHPUT_OPTIMIZED"] = "1"  # read when Ray is imported
os.environ["RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT"] = sys.argv[2]
os.environ["RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT"] = str(int(sys.argv[2]) + 1)

import numpy as np
import ray
from numpy.typing import NDArray
from ray import serve
from starlette.requests import Request

from benchmarks.peers.digits import BATCH_SECONDS, MOST, DigitsModel, asked
from benchmarks.ports import free_port


class Digits:
    """The digits model as Ray Serve has it."""

    def __init__(self, folder: str) -> None:
        self._model = DigitsModel(Path(folder))

    async def __call__(self, request: Request) -> dict[str, int]:
        """One row."""
        body = await request.json()
        return {"prediction": await self.predict(body["row"])}

    @serve.batch(  # type: ignore[untyped-decorator] # untyped here: only its own environment has Ray
        max_batch_size=MOST, batch_wait_timeout_s=BATCH_SECONDS
    )
    async def predict(self, rows: list[list[float]]) -> list[int]:
        """The class of each row."""
        images: NDArray[np.float32] = np.array(rows, dtype=np.float32)
        return self._model.classes(images)


def main() -> None:
    """Serve until ended."""
    start = asked()
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, address="local")
    serve.start(http_options={"host": "127.0.0.1", "port": free_port()})
    served = serve.deployment(Digits, max_ongoing_requests=4 * MOST)
    serve.run(served.bind(str(start.folder)), blocking=True)


if __name__ == "__main__":
    main()
