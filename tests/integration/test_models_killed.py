"""A real training process, killed with SIGKILL at several steps, ends with the same weights."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

# Trains a copy of a champion by replay; the step named on the command line kills its own process,
# between two checkpoints or while one is being written.
SCRIPT = """
import hashlib, os, signal, sys
from pathlib import Path

import torch

import models.checkpoint
from models import Budget, Digits, Memory, read_dataset, retrain
from models.checkpoint import Checkpoint
from models.learner import Examples

folder, dies_at, how = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
kill = lambda: os.kill(os.getpid(), signal.SIGKILL)


class Dying(Digits):
    steps = 0

    def _loss(self, *given):
        usual = super()._loss(*given)

        def loss(outputs, y):
            Dying.steps += 1
            if how == "training" and Dying.steps == dies_at:
                kill()
            return usual(outputs, y)

        return loss


replace = models.checkpoint.Path.replace


def renamed(path, target):
    if how == "writing" and Dying.steps == dies_at and target.suffix == ".json":
        kill()
    return replace(path, target)


models.checkpoint.Path.replace = renamed
data = read_dataset("builtin:digits", "")
learner = Dying()
x, y = learner.encode(data.rows[:160]), learner.targets(data.labels[:160])
champion = learner.build(torch.Generator().manual_seed(0))
memory = Memory(40, 0)
memory.add(Examples(x[80:], y[80:]))
budget = Budget(epochs=2, checkpoint=Checkpoint(folder, every=0.0))
module, report = retrain(
    learner, champion, Examples(x[:80], y[:80]), memory, "replay", budget, 0
)
weights = hashlib.sha256(b"".join(w.numpy().tobytes() for w in module.state_dict().values()))
print(report.resumed_at, weights.hexdigest())
"""


def train(folder: Path, dies_at: int = -1, how: str = "training") -> str:
    """What the training printed; empty where it was killed."""
    command = [sys.executable, "-c", SCRIPT, str(folder), str(dies_at), how]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if dies_at < 0:
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip()
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    return ended.stdout


@pytest.mark.parametrize(
    ("kills", "last"),
    [([(3, "training"), (4, "writing"), (1, "training")], 5), ([(10, "training")], 9)],
)
def test_a_process_killed_at_several_steps_goes_on_to_the_same_weights(
    tmp_path: Path, kills: list[tuple[int, str]], last: int
) -> None:
    """Ten steps: the first kill leaves two of them, the second three more, the third none."""
    for step, how in kills:
        assert train(tmp_path / "cut", step, how) == ""

    resumed, weights = train(tmp_path / "cut").split()

    assert (int(resumed), weights) == (last, train(tmp_path / "whole").split()[1])
