"""A FastAPI route with one forward per request: what one writes oneself in ten lines."""

from __future__ import annotations

import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.peers.digits import DigitsModel, asked


class Body(BaseModel):
    """What the route takes."""

    row: list[float]


def main() -> None:
    """Serve until ended."""
    start = asked()
    model, app = DigitsModel(start.folder), FastAPI()

    @app.post("/predict")
    async def predict(body: Body) -> dict[str, int]:
        return {"prediction": model.classes(np.array([body.row], dtype=np.float32))[0]}

    uvicorn.run(app, host="127.0.0.1", port=start.port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
