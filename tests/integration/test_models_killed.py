"""A real training process, killed with SIGKILL at several steps, ends with the same weights."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

# Trains copies of a champion by replay, one after another, each in a process of its own: a fork, so
# that the libraries are imported once. Some kill themselves, at a step or while a checkpoint of
# that step is being written. Prints how each ended, then what it printed.
SCRIPT = """
import hashlib, json, os, signal, sys
from pathlib import Path

import torch

import models.checkpoint
from models import Budget, Digits, Memory, read_dataset, retrain
from models.checkpoint import Checkpoint
from models.learner import Examples

torch.set_num_threads(1)
data = read_dataset("builtin:digits", "")
replace = models.checkpoint.Path.replace


def train(folder, dies_at, how):
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

    def renamed(path, target):
        if how == "writing" and Dying.steps == dies_at and target.suffix == ".json":
            kill()
        return replace(path, target)

    models.checkpoint.Path.replace = renamed
    learner = Dying()
    x, y = learner.encode(data.rows[:160]), learner.targets(data.labels[:160])
    champion = learner.build(torch.Generator().manual_seed(0))
    memory = Memory(40, 0)
    memory.add(Examples(x[80:], y[80:]))
    budget = Budget(epochs=2, checkpoint=Checkpoint(Path(folder), every=0.0))
    module, report = retrain(
        learner, champion, Examples(x[:80], y[:80]), memory, "replay", budget, 0
    )
    weights = hashlib.sha256(b"".join(w.numpy().tobytes() for w in module.state_dict().values()))
    return [report.resumed_at, weights.hexdigest()]


for folder, dies_at, how in json.loads(sys.argv[1]):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, json.dumps(train(folder, dies_at, how)).encode())
        os._exit(0)
    os.close(writer)
    said = os.read(reader, 4096).decode()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said)
"""

Training = tuple[str, int, str]  # the folder of its checkpoints, the step it dies at, and how


def train(trainings: Sequence[Training]) -> list[tuple[int, list[Any]]]:
    """How each training ended, and where it began again with the digest of its weights."""
    command = [sys.executable, "-c", SCRIPT, json.dumps(trainings)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    lines = [line.partition(" ") for line in ended.stdout.splitlines()]
    return [(int(status), json.loads(said or "[]")) for status, _, said in lines]


@pytest.mark.parametrize(
    ("kills", "last"),
    [([(3, "training"), (4, "writing"), (1, "training")], 5), ([(10, "training")], 9)],
)
def test_a_process_killed_at_several_steps_goes_on_to_the_same_weights(
    tmp_path: Path, kills: list[tuple[int, str]], last: int
) -> None:
    """Ten steps: the first kill leaves two of them, the second three more, the third none."""
    cut, whole = str(tmp_path / "cut"), str(tmp_path / "whole")
    never: Training = (cut, -1, "")

    *killed, gone_on, at_once = train([(cut, *kill) for kill in kills] + [never, (whole, -1, "")])

    assert killed == [(-signal.SIGKILL, [])] * len(kills)
    assert gone_on == (0, [last, at_once[1][1]])
