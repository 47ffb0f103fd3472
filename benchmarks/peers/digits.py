"""The digits model as every peer serves it: the same weights, the same torch forward.

    python -m benchmarks.peers.PEER FOLDER PORT WORK

starts a peer on loopback with the version in FOLDER; it may write into WORK. The peers' own
environments have torch, numpy and safetensors, and nothing of Homeostat.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

PIXELS = 64
MAX_INK = 16.0
MOST = 64  # rows in a batch, as many as there are connections at most
BATCH_SECONDS = 0.002  # that a server waits at most for a batch to fill, where it is told


@dataclass(frozen=True)
class Start:
    """How a peer is to start: the version's folder, the port, a folder that it may write to."""

    folder: Path
    port: int
    work: Path


def asked() -> Start:
    """What the command line says."""
    folder, port, work = sys.argv[1:4]
    return Start(Path(folder), int(port), Path(work))


def become(program: str, *arguments: str, **more: str) -> None:
    """Go on as a program of this environment, with more in its environment variables."""
    folder = Path(sys.executable).parent
    found = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"} | more
    os.execve(folder / program, [program, *arguments], os.environ | found)


class DigitsModel:
    """Two linear layers, after two convolutions and a pool if it has any, from a folder."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        config = json.loads((folder / "learner.json").read_text())["config"]
        channels, hidden = config["channels"], config["hidden"]
        self._classes: list[int] = config["classes"]
        convolutions = [
            nn.Conv2d(1, channels, 3),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        ]
        self._shape = (-1, 1, 8, 8) if channels else (-1, PIXELS)
        self._layers = nn.Sequential(
            *(convolutions if channels else ()),
            nn.Linear(8 * channels or PIXELS, hidden),
            nn.ReLU(),
            nn.Linear(hidden, len(self._classes)),
        )
        weights = load_file(folder / "model.safetensors")
        self._layers.load_state_dict(
            {name.removeprefix("layers."): value for name, value in weights.items()}
        )
        self._layers.eval()
        for weight in self._layers.parameters():  # in Homeostat's order: a third quicker
            if weight.ndim == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)

    def classes(self, rows: NDArray[np.float32]) -> list[int]:
        """The class of each row of (N, 64) pixels."""
        images = torch.from_numpy(rows).div(MAX_INK).reshape(self._shape)
        with torch.inference_mode():
            best: list[int] = self._layers(images).argmax(1).tolist()
        return [self._classes[index] for index in best]
